/// The numbers of the NBD protocol (the "proto.md" document of the NetworkBlockDevice project). All integers on the
/// wire are big-endian.
package enum NBD {
  // Handshake.
  package static let magic: UInt64 = 0x4e42_444d_4147_4943  // "NBDMAGIC"
  package static let optionMagic: UInt64 = 0x4948_4156_454f_5054  // "IHAVEOPT"
  package static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  // Transmission.
  package static let requestMagic: UInt32 = 0x2560_9513
  package static let extendedRequestMagic: UInt32 = 0x21e4_1c71
  package static let extendedReplyMagic: UInt32 = 0x6e8a_278c
  package static let simpleReplyMagic: UInt32 = 0x6744_6698
  package static let structuredReplyMagic: UInt32 = 0x668e_33ef

  package static let requestSize = 28
  package static let extendedRequestSize = 32
  package static let extendedChunkHeaderSize = 32
  package static let simpleReplySize = 16
  package static let chunkHeaderSize = 20
  package static let optionHeaderSize = 16

  /// The longest string that a peer may send.
  package static let maximumString = 4096
  /// The longest option payload that is looked at; longer ones are skipped and refused.
  package static let maximumOption = 64 << 10
  /// The longest data of one request: what every peer may send without being taken for hostile.
  package static let maximumPayload: UInt32 = 32 << 20

  package enum HandshakeFlag {
    package static let fixedNewstyle: UInt16 = 1 << 0
    package static let noZeroes: UInt16 = 1 << 1
  }

  package enum TransmissionFlag {
    package static let hasFlags: UInt16 = 1 << 0
    package static let readOnly: UInt16 = 1 << 1
    package static let flush: UInt16 = 1 << 2
    package static let forceUnitAccess: UInt16 = 1 << 3
    package static let trim: UInt16 = 1 << 5
    package static let writeZeroes: UInt16 = 1 << 6
    package static let dontFragment: UInt16 = 1 << 7
    package static let multiConnection: UInt16 = 1 << 8
    package static let cache: UInt16 = 1 << 10
    package static let fastZero: UInt16 = 1 << 11
    package static let blockStatusPayload: UInt16 = 1 << 12
  }

  package enum Option {
    package static let exportName: UInt32 = 1
    package static let abort: UInt32 = 2
    package static let list: UInt32 = 3
    package static let startTLS: UInt32 = 5
    package static let info: UInt32 = 6
    package static let go: UInt32 = 7
    package static let structuredReply: UInt32 = 8
    package static let listMetaContext: UInt32 = 9
    package static let setMetaContext: UInt32 = 10
    package static let extendedHeaders: UInt32 = 11
  }

  package enum OptionReply {
    package static let ack: UInt32 = 1
    package static let server: UInt32 = 2
    package static let info: UInt32 = 3
    package static let metaContext: UInt32 = 4
    package static let unsupported: UInt32 = 0x8000_0001
    package static let policy: UInt32 = 0x8000_0002
    package static let invalid: UInt32 = 0x8000_0003
    package static let tlsRequired: UInt32 = 0x8000_0005
    package static let unknown: UInt32 = 0x8000_0006
    package static let tooBig: UInt32 = 0x8000_0009
    package static let extendedHeadersRequired: UInt32 = 0x8000_000A
  }

  package enum Info {
    package static let export: UInt16 = 0
    package static let name: UInt16 = 1
    package static let description: UInt16 = 2
    package static let blockSize: UInt16 = 3
  }

  package enum Command {
    package static let read: UInt16 = 0
    package static let write: UInt16 = 1
    package static let disconnect: UInt16 = 2
    package static let flush: UInt16 = 3
    package static let trim: UInt16 = 4
    package static let cache: UInt16 = 5
    package static let writeZeroes: UInt16 = 6
    package static let blockStatus: UInt16 = 7
  }

  package enum CommandFlag {
    package static let forceUnitAccess: UInt16 = 1 << 0
    package static let noHole: UInt16 = 1 << 1
    package static let dontFragment: UInt16 = 1 << 2
    package static let requestOne: UInt16 = 1 << 3
    package static let fastZero: UInt16 = 1 << 4
    /// With extended headers: the length is that of a payload behind the header.
    package static let payloadLength: UInt16 = 1 << 5
  }

  package enum Chunk {
    package static let none: UInt16 = 0
    package static let offsetData: UInt16 = 1
    package static let offsetHole: UInt16 = 2
    package static let blockStatus: UInt16 = 5
    package static let extendedBlockStatus: UInt16 = 6
    package static let error: UInt16 = 0x8001
    package static let done: UInt16 = 1 << 0
  }

  /// The error numbers that may stand in a reply; on Linux they are the errno of the same name.
  package enum Failure {
    package static let notPermitted: UInt32 = 1
    package static let io: UInt32 = 5
    package static let noMemory: UInt32 = 12
    package static let invalid: UInt32 = 22
    package static let noSpace: UInt32 = 28
    package static let overflow: UInt32 = 75
    package static let notSupported: UInt32 = 95
    package static let shutdown: UInt32 = 108
  }
}
