import Glibc

/// An export as its provider gives it to the server.
package struct ExportInfo {
  /// Used on the server's thread only, and kept as long as a client is on it.
  package var device: any BlockDevice
  /// Refuses writes, even if the device would take them.
  package var isReadOnly: Bool
  /// For people; empty for none.
  package var description: String
  package var size: UInt64 { device.size }

  package init(device: any BlockDevice, isReadOnly: Bool = false, description: String = "") {
    self.device = device
    self.isReadOnly = isReadOnly || device.isReadOnly
    self.description = description
  }

  /// What clients are told that they may do. One device serves all connections, so a flush covers them all.
  package var transmissionFlags: UInt16 {
    typealias Flag = NBD.TransmissionFlag
    let always = Flag.hasFlags | Flag.flush | Flag.forceUnitAccess | Flag.multiConnection | Flag.cache
    return always | (isReadOnly ? Flag.readOnly : Flag.trim | Flag.writeZeroes | Flag.fastZero)
  }
}

/// What a server has to offer. Every member is called on the server's thread.
package protocol ExportProvider: AnyObject {
  /// The first one is also the default export, "".
  func names() -> [String]
  /// The export of that name, nil if there is none. Called for each look a client takes: the device of a name must be
  /// the same object as long as somebody uses it.
  func open(_ name: String) -> ExportInfo?
  /// Devices to commit and poll from the server's start on, whether or not a client uses them. Others are
  /// polled from the time a client enters until the last one leaves.
  func residents() -> [any BlockDevice]
  /// As `open`, for exports that take time: with `.opening` the client's handshake waits, and nobody else.
  func look(_ name: String) -> ExportLook
  /// Once, before all else. `ready` may be called from any thread: what was `.opening` is looked at again.
  func begin(ready: @escaping @Sendable () -> Void)
  /// A client has gone: exports of which no device is in use can be let go.
  func tidy(inUse: (any BlockDevice) -> Bool)
}

extension ExportProvider {
  package func look(_ name: String) -> ExportLook { open(name).map { .found($0) } ?? .absent }
  package func begin(ready: @escaping @Sendable () -> Void) {}
  package func tidy(inUse: (any BlockDevice) -> Bool) {}
  package func residents() -> [any BlockDevice] { names().compactMap { open($0)?.device } }
}

/// The provider as the handshake sees it, for one step.
final class ProviderCatalogue: ExportCatalogue {
  private let provider: any ExportProvider
  /// The step asked for an export that is being opened: its answer is worth nothing.
  private(set) var isOpening = false

  private let isFull: (any BlockDevice) -> Bool

  init(provider: any ExportProvider, isFull: @escaping (any BlockDevice) -> Bool) {
    self.provider = provider
    self.isFull = isFull
  }
  func names() -> [String] { provider.names() }
  func describe(_ name: String) -> ExportDescription? {
    switch provider.look(name) {
    case .found(let e):
      return ExportDescription(
        name: name, size: e.size, transmissionFlags: e.transmissionFlags, text: e.description, isFull: isFull(e.device))
    case .absent: return nil
    case .opening:
      isOpening = true
      return nil
    }
  }
}

/// A device on the server's thread: how many use it, and whether this round has asked something of it.
final class DeviceEntry {
  let device: any BlockDevice
  /// What its wake descriptor is polled under.
  let key: UInt64
  let isResident: Bool
  var connections = 0
  var isTouched = false

  init(device: any BlockDevice, key: UInt64, isResident: Bool) {
    self.device = device
    self.key = key
    self.isResident = isResident
  }
}

/// Takes completions from devices, and holds them until the loop gets to them: a device reports from inside `commit`
/// and `poll`, when the loop is in no state to go on with a connection.
final class CompletionQueue: CompletionSink {
  struct Completion {
    var token: UInt64
    var error: Int32
  }
  private let entries: UnsafeMutablePointer<Completion>
  private let capacity: Int
  private(set) var count = 0

  /// - Parameter capacity: the requests that can be in flight.
  init(capacity: Int) {
    self.capacity = capacity
    entries = .allocate(capacity: capacity)
  }
  deinit { entries.deallocate() }

  func complete(token: UInt64, error: Int32) {
    precondition(count < capacity, "a device completed more requests than it was given")
    entries[count] = Completion(token: token, error: error)
    count += 1
  }

  /// Hands all over and forgets them.
  @inline(__always) func drain(_ body: (Completion) -> Void) {
    for index in 0..<count { body(entries[index]) }
    count = 0
  }
}

/// The error number on the wire for an errno.
func wireError(_ errno: Int32) -> UInt32 {
  switch errno {
  case 0: 0
  case EPERM, EROFS, EACCES: NBD.Failure.notPermitted
  case ENOMEM: NBD.Failure.noMemory
  case EINVAL: NBD.Failure.invalid
  case ENOSPC, EDQUOT, EFBIG: NBD.Failure.noSpace
  case EOVERFLOW: NBD.Failure.overflow
  case EOPNOTSUPP: NBD.Failure.notSupported
  case ESHUTDOWN: NBD.Failure.shutdown
  default: NBD.Failure.io
  }
}
