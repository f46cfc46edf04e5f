@testable import ElideIO

/// What real clients send (as nbdkit's log filter showed it), and how to spoil it.
enum NBDStreams {
  static let handshakes: [[UInt8]] = [nbdinfo, qemu, kernel, stubborn].map(\.bytes)

  /// nbdinfo: asks for all before it enters.
  static var nbdinfo: NBDWire {
    var wire = NBDWire.flags()
    wire.option(NBD.Option.structuredReply)
    wire.option(NBD.Option.info, NBDWire.go("", infos: [1, 2, 3]))
    wire.option(NBD.Option.listMetaContext, NBDWire.contexts("", []))
    wire.option(NBD.Option.setMetaContext, NBDWire.contexts("", ["base:allocation"]))
    wire.option(NBD.Option.go, NBDWire.go("", infos: [1, 2, 3]))
    wire.bytes += [1, 2, 3]
    return wire
  }
  static var qemu: NBDWire {
    var wire = NBDWire.flags()
    wire.option(NBD.Option.startTLS)
    wire.option(NBD.Option.structuredReply)
    wire.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation", "elide:residency"]))
    wire.option(NBD.Option.go, NBDWire.go("disk", infos: [3]))
    return wire
  }
  static var kernel: NBDWire {
    var wire = NBDWire.flags(1)
    wire.option(NBD.Option.exportName, Array("disk@snap".utf8))
    return wire
  }
  static var stubborn: NBDWire {
    var wire = NBDWire.flags()
    wire.option(NBD.Option.extendedHeaders)
    wire.option(77, [UInt8](repeating: 0x55, count: 70_000))
    wire.option(NBD.Option.list)
    wire.option(NBD.Option.go, NBDWire.go("nobody"))
    wire.option(NBD.Option.abort)
    return wire
  }

  /// Requests of every kind, sound and unsound, on a device of 1 MiB.
  static var requests: NBDWire {
    var wire = NBDWire()
    wire.request(NBD.Command.write, cookie: 1, offset: 4096, length: 4096, payload: [UInt8](repeating: 0xA5, count: 4096))
    wire.request(NBD.Command.read, cookie: 2, offset: 0, length: 65536)
    wire.request(NBD.Command.write, flags: 1, cookie: 3, offset: 1 << 20, length: 512, payload: [UInt8](repeating: 1, count: 512))
    wire.request(NBD.Command.trim, cookie: 4, offset: 8192, length: 4096)
    wire.request(NBD.Command.flush, cookie: 5)
    wire.request(NBD.Command.writeZeroes, flags: 2, cookie: 6, offset: 12345, length: 777)
    wire.request(NBD.Command.blockStatus, cookie: 7, offset: 0, length: 1 << 20)
    wire.request(NBD.Command.cache, cookie: 8, offset: 0, length: 1 << 16)
    wire.request(42, cookie: 9)
    wire.request(NBD.Command.read, flags: 4, cookie: 10, offset: 100, length: 3)
    wire.request(NBD.Command.write, cookie: 11, offset: 5000, length: 3, payload: [1, 2, 3])
    wire.request(NBD.Command.write, flags: 0x80, cookie: 12, offset: 0, length: 5, payload: [1, 2, 3, 4, 5])
    wire.request(NBD.Command.disconnect)
    return wire
  }

  /// A few random changes: bytes, bits, lengths, cuts, repeats.
  static func mutate(_ stream: [UInt8], _ random: inout Seeded) -> [UInt8] {
    var bytes = stream
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let at = Int.random(in: 0..<bytes.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[at] ^= 1 << UInt8.random(in: 0...7, using: &random)
      case 2: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
      case 3: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...40, using: &random)))
      case 4: bytes.removeLast(bytes.count - at)
      default: bytes.insert(contentsOf: stream[..<min(stream.count, 60)], at: at)
      }
    }
    return bytes
  }
}
