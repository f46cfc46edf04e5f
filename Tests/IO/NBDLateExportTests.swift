import Glibc
import MemoryDevice
import Synchronization
import Testing

@testable import ElideIO

/// Opens "slow" and "slow2" when told, never opens "bad"; "disk" is always there.
private final class SlowExports: ExportProvider {
  /// What other threads may ask and tell.
  final class Gate: Sendable {
    let opened = Mutex(0)
    let asked = Mutex(0)
    let closed = Mutex(0)
    private let isOpen = Mutex(false)
    let arrival = Condition()
    func release() {
      isOpen.withLock { $0 = true }
      arrival.broadcast()
    }
    func wait() {
      asked.withLock { $0 += 1 }
      while true {
        let seen = arrival.count
        if isOpen.withLock({ $0 }) { return }
        arrival.wait(after: seen, nanoseconds: 1_000_000_000)
      }
    }
  }
  private let gate: Gate
  private let disk: MemoryDevice
  private var late: LateExports<MemoryDevice>?

  init(_ gate: Gate) throws {
    self.gate = gate
    disk = try MemoryDevice(size: 1 << 20)
  }
  func names() -> [String] { ["disk"] }
  func open(_ name: String) -> ExportInfo? { name == "disk" ? ExportInfo(device: disk) : nil }
  func begin(ready: @escaping @Sendable () -> Void) {
    late = LateExports(
      limit: 2, ready: ready,
      make: { [gate] name in
        gate.wait()
        guard name != "bad", let device = try? MemoryDevice(size: 2 << 20, isReadOnly: true) else { return nil }
        gate.opened.withLock { $0 += 1 }
        return device
      }, giveBack: { [gate] _ in gate.closed.withLock { $0 += 1 } })
  }
  func look(_ name: String) -> ExportLook {
    if let there = open(name) { return .found(there) }
    guard let late, name != "none" else { return .absent }
    switch late.look(name) {
    case .found(let device): return .found(ExportInfo(device: device))
    case .absent: return .absent
    case .opening: return .opening
    }
  }
  func tidy(inUse: (any BlockDevice) -> Bool) { late?.tidy { inUse($0) } }
}

@Suite struct NBDLateExportTests {
  private func started(_ gate: SlowExports.Gate) throws -> (server: NBDServer, thread: JoinableThread, path: String) {
    let path = "/tmp/elide-late-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).sock"
    let server = try NBDServer(listening: [.unix(path: path)], exports: SlowExports(gate))
    return (server, try server.start(), path)
  }

  /// Waits for what another thread is about to do; a thread that never does it ends the test.
  private func until(_ condition: () -> Bool) -> Bool {
    for _ in 0..<20_000_000 {
      if condition() { return true }
      sched_yield()
    }
    return false
  }

  private func entering(_ path: String, _ export: String) throws -> NBDClient {
    let client = try #require(NBDClient(path: path))
    var wire = NBDWire.flags()
    wire.option(NBD.Option.info, NBDWire.go(export))
    wire.option(NBD.Option.go, NBDWire.go(export))
    #expect(client.send(wire.bytes))
    #expect(client.receive(18)?.count == 18)
    return client
  }

  /// The type of the reply that ends an option's answer.
  private func verdict(_ client: NBDClient) -> UInt32? {
    while let head = client.receive(20) {
      let (type, length) = head.withUnsafeBytes { ($0.big(UInt32.self, at: 12), Int($0.big(UInt32.self, at: 16))) }
      guard client.receive(length) != nil else { return nil }
      if type != NBD.OptionReply.info { return type }
    }
    return nil
  }

  @Test func whileOneWaitsOthersAreServed() throws {
    let gate = SlowExports.Gate()
    let (server, thread, path) = try started(gate)
    let slow = try entering(path, "slow")
    #expect(until { gate.asked.withLock { $0 } == 1 })
    // The server's thread is not the one that waits.
    let disk = try #require(NBDClient(path: path, export: "disk"))
    #expect(disk.write([1, 2, 3], at: 7) == 0 && disk.read(3, at: 7) == [1, 2, 3])
    // A second client of the same export waits with the first, and opens nothing.
    let same = try entering(path, "slow")
    let bad = try entering(path, "bad")
    let third = try entering(path, "slow2")
    #expect(disk.read(3, at: 7) == [1, 2, 3])
    #expect(gate.asked.withLock { $0 } <= 2, "two are opened at once")
    gate.release()
    for client in [slow, same, third] {
      #expect(verdict(client) == NBD.OptionReply.ack && verdict(client) == NBD.OptionReply.ack)
      #expect(client.call(NBD.Command.flush)?.error == 0)
    }
    #expect(verdict(bad) == NBD.OptionReply.unknown && verdict(bad) == NBD.OptionReply.unknown)
    #expect(gate.opened.withLock { $0 } == 2 && gate.closed.withLock { $0 } == 0)

    // It is let go when the last client has gone, and opened again for the next.
    slow.request(NBD.Command.disconnect)
    #expect(slow.drain())
    #expect(same.call(NBD.Command.flush)?.error == 0)
    same.request(NBD.Command.disconnect)
    #expect(same.drain())
    #expect(until { gate.closed.withLock { $0 } == 1 })
    let again = try #require(NBDClient(path: path, export: "slow"))
    #expect(again.call(NBD.Command.flush)?.error == 0)
    #expect(gate.opened.withLock { $0 } == 3)
    server.stop()
    thread.join()
    #expect(server.wasClean)
  }

  @Test func whoGoesWhileWaitingLeavesNothingOpen() throws {
    let gate = SlowExports.Gate()
    let (server, thread, path) = try started(gate)
    do {
      let slow = try entering(path, "slow")
      #expect(until { gate.asked.withLock { $0 } == 1 })
      slow.finishSending()
    }
    let disk = try #require(NBDClient(path: path, export: "disk"))
    #expect(until { server.statistics.connectionsOpen == 1 })
    gate.release()
    #expect(until { gate.closed.withLock { $0 } == 1 && gate.opened.withLock { $0 } == 1 })
    #expect(disk.read(3, at: 7) == [0, 0, 0])
    server.stop()
    thread.join()
    #expect(server.wasClean)
  }

  @Test func aStopDoesNotWaitForAnExport() throws {
    let gate = SlowExports.Gate()
    let (server, thread, path) = try started(gate)
    let slow = try entering(path, "slow")
    #expect(until { gate.asked.withLock { $0 } == 1 })
    server.stop()
    thread.join()
    #expect(server.wasClean && slow.drain())
    gate.release()
  }
}
