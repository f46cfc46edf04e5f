import Glibc
import MemoryDevice
import Testing

@testable import ElideIO

/// Limits and time-outs of connections, and listening sockets that others made.
@Suite struct NBDLimitTests {
  @Test func anExportTakesSoManyClientsAndNoMore() throws {
    let fixture = try NBDFixture { $0.maximumConnectionsPerExport = 2 }
    let first = try fixture.client()
    let second = try fixture.client()
    // Refused with a reason, and free to do something else.
    let third = try #require(NBDClient(path: fixture.path))
    var wire = NBDWire.flags()
    wire.option(NBD.Option.go, NBDWire.go("disk"))
    wire.option(NBD.Option.info, NBDWire.go("disk"))
    wire.option(NBD.Option.go, NBDWire.go("disk@snap"))
    #expect(third.send(wire.bytes) && third.receive(18) != nil)
    var types: [UInt32] = []
    for _ in 0..<7 {
      let head = try #require(third.receive(20))
      let (type, length) = head.withUnsafeBytes { ($0.big(UInt32.self, at: 12), Int($0.big(UInt32.self, at: 16))) }
      types.append(type)
      #expect(third.receive(length) != nil)
    }
    #expect(types == [NBD.OptionReply.policy, 3, 3, 1, 3, 3, 1])
    #expect(first.write([1], at: 0) == 0 && second.read(1, at: 0) == [1])
    // A place becomes free.
    first.request(NBD.Command.disconnect)
    #expect(first.drain())
    #expect(try fixture.client().read(1, at: 0) == [1])
    #expect(fixture.stop())
  }

  @Test func byNameThereIsOnlyTheEndOfTheConnection() {
    let full = FixedCatalogue(exports: [ExportDescription(name: "disk", size: 1, transmissionFlags: 1, isFull: true)])
    var wire = NBDWire.flags()
    wire.option(NBD.Option.exportName, Array("disk".utf8))
    let run = HandshakeRun(wire.bytes, catalogue: full)
    #expect(run.closed != nil && run.agreement == nil && run.output.isEmpty)
  }

  @Test func silentClientsAreDisconnectedAndOthersAreNot() throws {
    let fixture = try NBDFixture(manner: .shuffled) { $0.idleTimeout = 40 }
    let silent = try fixture.client()
    let busy = try fixture.client()
    #expect(silent.write([7], at: 0) == 0)
    // The server hangs up on the one while the other goes on asking.
    var answer: [UInt8] = [0]
    var rounds = 0
    while recv(silent.descriptor, &answer, 1, Int32(MSG_DONTWAIT)) != 0 {
      #expect(busy.read(1, at: 0) == [7])
      rounds += 1
    }
    #expect(rounds > 0 && busy.read(1, at: 0) == [7])
    #expect(fixture.stop() && fixture.server.statistics.connectionsDropped >= 1)
  }

  /// A request that takes its time is not silence.
  @Test func aClientThatWaitsForAnAnswerIsNotIdle() throws {
    nonisolated(unsafe) var device: MemoryDevice?
    let fixture = try NBDFixture(manner: .shuffled) {
      $0.idleTimeout = 20
    } prepare: {
      $0.isHeld = true
      device = $0
    }
    let waiting = try fixture.client()
    waiting.request(NBD.Command.flush)
    // Another one comes and is dropped for its silence: by then the time of the first was up as well, more than once.
    for _ in 0..<2 { #expect(try fixture.client().drain()) }
    #expect(fixture.server.perform { device?.isHeld = false })
    #expect(waiting.reply() == NBDClient.Reply(cookie: 1))
    #expect(fixture.stop())
  }

  @Test func socketsAreHandedToOneProcess() {
    func count(_ pid: String?, _ fds: String?) -> Int32? {
      SocketActivation.count(processID: 77, listenPID: pid, listenFDs: fds)
    }
    #expect(count("77", "1") == 1 && count("77", "12") == 12)
    #expect(count("78", "1") == nil && count(nil, "1") == nil && count("77", nil) == nil && count("", "1") == nil)
    for wrong in ["0", "-1", "x", "", "1025", "99999999999"] { #expect(count("77", wrong) == 0) }
  }

  @Test func anInheritedSocketServesAndItsFileStays() throws {
    let path = "/tmp/elide-inherited-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).sock"
    defer { unlink(path) }
    var address = try #require(sockaddr_un(path: path))
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    #expect(address.withAddress { bind(descriptor, $0, $1) } == 0 && listen(descriptor, 4) == 0)
    // It comes before there is a server.
    let early = try #require(NBDClient(path: path))
    let disk = try MemoryDevice(size: 1 << 20)
    let server = try NBDServer(
      listening: [.inherited(descriptor: descriptor)], exports: MemoryExports([("disk", ExportInfo(device: disk))]))
    let thread = try server.start()
    #expect(early.receive(18)?.count == 18)
    #expect(NBDClient(path: path, export: "disk")?.write([1], at: 0) == 0)
    server.stop()
    thread.join()
    #expect(server.wasClean && access(path, F_OK) == 0)
  }
}
