import Glibc
import MemoryDevice
import Testing

@testable import ElideIO

@Suite struct NBDServerTests {
  private func pattern(_ count: Int, _ seed: UInt64) -> [UInt8] {
    var random = Seeded(seed)
    var bytes = [UInt8](repeating: 0, count: (count + 7) & ~7)
    bytes.withUnsafeMutableBytes { raw in
      for at in stride(from: 0, to: raw.count, by: 8) { raw.storeBytes(of: random.next() | 1, toByteOffset: at, as: UInt64.self) }
    }
    return Array(bytes[..<count])
  }

  @Test(arguments: MemoryDevice.Manner.allCases, [true, false])
  func writesAreReadBack(manner: MemoryDevice.Manner, structured: Bool) throws {
    let fixture = try NBDFixture(manner: manner)
    let client = try fixture.client(structured: structured)
    for (offset, count) in [(0, 4096), (5, 3), (4090, 20), (1 << 20, 1 << 20), ((8 << 20) - 1, 1), (12345, 100_000)] {
      let bytes = pattern(count, UInt64(offset))
      #expect(client.write(bytes, at: UInt64(offset)) == 0)
      #expect(client.read(UInt32(count), at: UInt64(offset)) == bytes)
    }
    #expect(client.read(4096, at: 6 << 20) == [UInt8](repeating: 0, count: 4096))
    #expect(client.call(NBD.Command.writeZeroes, offset: 0, length: 8192)?.error == 0)
    #expect(client.read(8192, at: 0) == [UInt8](repeating: 0, count: 8192))
    for command in [NBD.Command.flush, NBD.Command.trim, NBD.Command.cache] {
      #expect(client.call(command, length: command == NBD.Command.flush ? 0 : 4096) == NBDClient.Reply(cookie: 1))
    }
    #expect(fixture.stop())
    #expect(fixture.server.statistics.flushes == 1 && fixture.server.statistics.writes == 6)
  }

  /// A mirror beside the device; batches of requests that do not overlap, so that any order of completion is right.
  @Test(arguments: MemoryDevice.Manner.allCases, [true, false])
  func pipelinedRequestsMatchAMirror(manner: MemoryDevice.Manner, structured: Bool) throws {
    let fixture = try NBDFixture(manner: manner, seed: 7) { $0.requestsInFlight = 16 }
    let client = try fixture.client(structured: structured)
    var mirror = [UInt8](repeating: 0, count: 8 << 20)
    var random = Seeded(structured ? 11 : 12)
    for _ in 0..<15 {
      var wire = NBDWire()
      var expected: [UInt64: Range<Int>] = [:]
      var changes: [(Range<Int>, [UInt8])] = []
      for lane in 0..<40 {
        let start = lane * 200_000 + Int.random(in: 0..<100_000, using: &random)
        let count = [1, 512, 4096, 5000, 33_000, 90_000].randomElement(using: &random) ?? 1
        let cookie = UInt64(lane) << 32 | UInt64.random(in: 0...0xFFFF, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0, 1:
          expected[cookie] = start..<start + count
          client.reads[cookie] = (UInt64(start), count)
          wire.request(NBD.Command.read, cookie: cookie, offset: UInt64(start), length: UInt32(count))
        case 2:
          let bytes = pattern(count, UInt64(start))
          changes.append((start..<start + count, bytes))
          wire.request(NBD.Command.write, cookie: cookie, offset: UInt64(start), length: UInt32(count), payload: bytes)
        default:
          changes.append((start..<start + count, [UInt8](repeating: 0, count: count)))
          wire.request(NBD.Command.writeZeroes, cookie: cookie, offset: UInt64(start), length: UInt32(count))
        }
      }
      #expect(client.send(wire.bytes))
      for _ in 0..<40 {
        let reply = try #require(client.reply())
        #expect(reply.error == 0)
        if let range = expected.removeValue(forKey: reply.cookie) { #expect(reply.data == Array(mirror[range])) }
      }
      #expect(expected.isEmpty)
      for (range, bytes) in changes { mirror.replaceSubrange(range, with: bytes) }
    }
    #expect(client.read(8 << 20, at: 0) == mirror)
    #expect(fixture.stop())
  }

  @Test func holesAreToldAsHoles() throws {
    let fixture = try NBDFixture()
    let client = try fixture.client()
    #expect(client.write(pattern(4096, 1), at: 8192) == 0)
    let reply = try #require(client.call(NBD.Command.read, offset: 0, length: 65536))
    #expect(reply.chunks == [NBD.Chunk.offsetHole, NBD.Chunk.offsetData, NBD.Chunk.offsetHole])
    var expected = [UInt8](repeating: 0, count: 65536)
    expected.replaceSubrange(8192..<12288, with: pattern(4096, 1))
    #expect(reply.data == expected)
    #expect(client.call(NBD.Command.read, flags: 4, offset: 0, length: 65536)?.chunks == [NBD.Chunk.offsetData])
    #expect(client.call(NBD.Command.read, offset: 16384, length: 65536)?.chunks == [NBD.Chunk.offsetHole])
    #expect(client.call(NBD.Command.read, flags: 4, offset: 16384, length: 65536)?.chunks == [NBD.Chunk.offsetHole])
    #expect(client.call(NBD.Command.read, offset: 16384, length: 4096)?.chunks == [NBD.Chunk.offsetData])
    #expect(client.call(NBD.Command.read, offset: 0, length: 0)?.chunks == [NBD.Chunk.none])
    // More runs than one reply may have chunks: the rest is data.
    for block in 0..<100 { #expect(client.write([1], at: UInt64(block * 8192 + 1 << 20)) == 0) }
    let many = try #require(client.call(NBD.Command.read, offset: 1 << 20, length: 100 * 8192))
    #expect(many.chunks.count <= Connection.readChunks && many.chunks.contains(NBD.Chunk.offsetHole))
    var sparse = [UInt8](repeating: 0, count: 100 * 8192)
    for block in 0..<100 { sparse[block * 8192] = 1 }
    #expect(many.data == sparse)
  }

  @Test func blockStatusOfTwoContexts() throws {
    let fixture = try NBDFixture()
    let client = try fixture.client(contexts: ["base:allocation", "elide:residency"])
    #expect(client.write(pattern(4096, 1), at: 4096) == 0)
    #expect(client.call(NBD.Command.writeZeroes, flags: 2, offset: 8192, length: 4096)?.error == 0)
    let reply = try #require(client.call(NBD.Command.blockStatus, offset: 0, length: 2 << 20))
    func big(_ values: [UInt32]) -> [UInt8] {
      var bytes: [UInt8] = []
      values.forEach { bytes.appendBig($0) }
      return bytes
    }
    let rest = UInt32(2 << 20) - 12288
    #expect(reply.chunks == [NBD.Chunk.blockStatus, NBD.Chunk.blockStatus])
    let allocation = big([1, 4096, 3, 4096, 0, 4096, 2, rest, 3])
    #expect(reply.data == allocation + big([2, 1 << 20, 0, 1 << 20, 1]))
    let one = try #require(client.call(NBD.Command.blockStatus, flags: 8, offset: 4096, length: 2 << 20))
    #expect(one.data == big([1, 4096, 0]) + big([2, (1 << 20) - 4096, 0]))
    let single = try fixture.client(contexts: ["elide:residency"])
    #expect(single.call(NBD.Command.blockStatus, offset: 1 << 20, length: 9)?.data == big([2, 9, 1]))
  }

  @Test func errorsReachTheClientAndTheConnectionLives() throws {
    let fixture = try NBDFixture(
      manner: .committed,
      prepare: { device in
        device.failure = { request in
          if request.offset == 8192 { return EROFS }
          return request.offset == 4096 ? (request.operation == .read ? EIO : ENOSPC) : 0
        }
      })
    for structured in [true, false] {
      let client = try fixture.client(structured: structured)
      #expect(client.call(NBD.Command.read, offset: 4096, length: 4096)?.error == NBD.Failure.io)
      #expect(client.write([1, 2], at: 4096) == NBD.Failure.noSpace)
      #expect(client.write([1, 2], at: 8192) == NBD.Failure.notPermitted)
      #expect(client.write([1, 2], at: (8 << 20) - 1) == NBD.Failure.noSpace)
      #expect(client.call(NBD.Command.read, offset: 8 << 20, length: 1)?.error == NBD.Failure.invalid)
      #expect(client.call(99)?.error == NBD.Failure.invalid)
      #expect(client.call(NBD.Command.blockStatus, length: 4096)?.error == NBD.Failure.invalid)
      #expect(client.call(NBD.Command.read, offset: 0, length: 3)?.data == [0, 0, 0])
    }
    let frozen = try fixture.client("disk@snap")
    #expect(frozen.write([1], at: 0) == NBD.Failure.notPermitted)
    #expect(frozen.call(NBD.Command.flush)?.error == 0)
  }

  @Test func exportsAndTheDefault() throws {
    let fixture = try NBDFixture()
    let first = try fixture.client("disk")
    let standard = try fixture.client("")
    #expect(first.write([7], at: 100) == 0 && standard.read(1, at: 100) == [7])
    #expect(try fixture.client("disk@snap").read(1, at: 100) == [0])
    #expect(NBDClient(path: fixture.path, export: "nobody") == nil)
  }

  /// Requests wait for their turn when a limit is reached; nothing is refused.
  @Test(arguments: MemoryDevice.Manner.allCases)
  func limitsOnlySlowDown(manner: MemoryDevice.Manner) throws {
    let fixture = try NBDFixture(manner: manner) {
      $0.requestsInFlight = 2
      $0.bytesInFlight = 1 << 20
      $0.totalBytesInFlight = 1 << 20
    }
    let clients = try (0..<4).map { _ in try fixture.client(structured: false) }
    for (number, client) in clients.enumerated() {
      var wire = NBDWire()
      for index in 0..<8 {
        let bytes = [UInt8](repeating: UInt8(number * 8 + index + 1), count: 200_000)
        wire.request(
          NBD.Command.write, cookie: UInt64(index), offset: UInt64((number * 8 + index) * 200_000), length: 200_000,
          payload: bytes)
      }
      #expect(client.send(wire.bytes))
    }
    for (number, client) in clients.enumerated() {
      for _ in 0..<8 { #expect(client.reply()?.error == 0) }
      for index in 0..<8 {
        client.request(
          NBD.Command.read, cookie: UInt64(index), offset: UInt64((number * 8 + index) * 200_000), length: 200_000)
      }
    }
    for (number, client) in clients.enumerated() {
      for _ in 0..<8 {
        let reply = try #require(client.reply())
        #expect(reply.data == [UInt8](repeating: UInt8(number * 8 + Int(reply.cookie) + 1), count: 200_000))
      }
    }
    #expect(fixture.stop())
  }

  @Test func aSlowClientHoldsUpNobodyAndGetsAll() throws {
    let fixture = try NBDFixture { $0.bytesInFlight = 4 << 20 }
    let slow = try fixture.client(structured: false)
    let quick = try fixture.client(structured: false)
    let bytes = (0..<8).map { pattern(1 << 20, UInt64($0) + 3) }
    for (place, part) in bytes.enumerated() { #expect(quick.write(part, at: UInt64(place) << 20) == 0) }
    // 64 MiB of replies that nobody reads yet, far more than the limit and the socket's buffer.
    for index in 0..<64 {
      #expect(slow.request(NBD.Command.read, cookie: UInt64(index), offset: UInt64(index % 7) << 20, length: 1 << 20))
    }
    // Buffers that are given back too early would be filled with this.
    for _ in 0..<20 { #expect(quick.read(1 << 20, at: 7 << 20) == bytes[7]) }
    for index in 0..<64 {
      let reply = try #require(slow.reply())
      #expect(reply.cookie == UInt64(index) && reply.data == bytes[index % 7])
      if index % 4 == 0 { #expect(quick.read(1 << 20, at: 7 << 20) == bytes[7]) }
    }
    #expect(fixture.stop())
  }

  /// The answers to a flood of options wait until the client reads, and what follows the handshake is not forgotten meanwhile.
  @Test func aFloodOfOptionsIsAnsweredAsItIsRead() throws {
    let fixture = try NBDFixture { $0.sendBuffer = 4096 }
    let client = try #require(NBDClient(path: fixture.path))
    var wire = NBDWire.flags()
    for _ in 0..<4000 { wire.option(NBD.Option.list) }
    wire.option(NBD.Option.go, NBDWire.go("disk"))
    wire.request(NBD.Command.flush, cookie: 5)
    #expect(client.send(wire.bytes) && client.receive(18) != nil)
    let list = 24 + 4 + 24 + 9 + 20
    #expect(client.receive(4000 * list) != nil)
    #expect(client.receive(32 + 34 + 20) != nil)
    #expect(client.reply() == NBDClient.Reply(cookie: 5))
  }

  @Test func tooManyConnectionsAreTurnedAway() throws {
    let fixture = try NBDFixture { $0.maximumConnections = 3 }
    var clients = try (0..<3).map { _ in try fixture.client() }
    let extra = try #require(NBDClient(path: fixture.path))
    #expect(extra.drain())
    clients.removeLast().finishSending()
    // The place is free once the server has seen the end of the other one.
    var next: NBDClient?
    for _ in 0..<10_000 where next == nil { next = NBDClient(path: fixture.path, export: "disk") }
    #expect(next?.call(NBD.Command.flush)?.error == 0)
    for client in clients { #expect(client.call(NBD.Command.flush)?.error == 0) }
  }

  @Test func manyConnections() throws {
    let fixture = try NBDFixture(manner: .shuffled)
    let clients = try (0..<100).map { _ in try fixture.client() }
    for (index, client) in clients.enumerated() {
      client.request(
        NBD.Command.write, offset: UInt64(index * 4096), length: 4096, payload: [UInt8](repeating: UInt8(index + 1), count: 4096))
    }
    for client in clients { #expect(client.reply()?.error == 0) }
    for (index, client) in clients.reversed().enumerated() {
      #expect(client.read(4096, at: UInt64(index * 4096)) == [UInt8](repeating: UInt8(index + 1), count: 4096))
    }
    // An optimised build would let go of each client after its last read.
    withExtendedLifetime(clients) { #expect(fixture.server.statistics.connectionsOpen == 100) }
    #expect(fixture.stop())
  }

  @Test func aClientThatOnlyConnectsIsDroppedInTime() throws {
    let fixture = try NBDFixture { $0.handshakeTimeout = 20 }
    let mute = try #require(NBDClient(path: fixture.path))
    #expect(mute.receive(18) == Handshake.greeting)
    #expect(mute.drain())
    // One that has entered may be as silent as it likes: the other's end is later than its own time would have been.
    let silent = try fixture.client()
    let other = try #require(NBDClient(path: fixture.path))
    #expect(other.drain())
    #expect(silent.call(NBD.Command.flush)?.error == 0)
    #expect(fixture.server.statistics.connectionsDropped == 2)
  }

  @Test(arguments: MemoryDevice.Manner.allCases)
  func leaving(manner: MemoryDevice.Manner) throws {
    let fixture = try NBDFixture(manner: manner)
    // DISC after requests: they are answered first.
    let polite = try fixture.client()
    polite.request(NBD.Command.write, cookie: 5, offset: 0, length: 3, payload: [1, 2, 3])
    polite.request(NBD.Command.disconnect)
    #expect(polite.reply() == NBDClient.Reply(cookie: 5) && polite.drain())
    // The end of the stream too.
    let half = try fixture.client()
    half.request(NBD.Command.read, cookie: 6, offset: 0, length: 3)
    half.finishSending()
    #expect(half.reply()?.data == [1, 2, 3] && half.drain())
    // In the middle of a payload, of a request, and with replies unread.
    for bytes in [40, 20, 5000] {
      let rude = try fixture.client()
      var wire = NBDWire()
      wire.request(NBD.Command.write, offset: 0, length: 4096, payload: [UInt8](repeating: 9, count: 4096))
      wire.request(NBD.Command.read, offset: 0, length: 1 << 20)
      rude.send(Array((wire.bytes + wire.bytes).prefix(bytes)))
    }
    let wrong = try fixture.client()
    wrong.send([UInt8](repeating: 0x42, count: 28))
    #expect(wrong.drain())
    #expect(try fixture.client().call(NBD.Command.flush)?.error == 0)
    #expect(fixture.stop())
  }

  @Test func stopFinishesWhatIsInFlightAndRefusesTheRest() throws {
    nonisolated(unsafe) var held: MemoryDevice?
    let fixture = try NBDFixture(
      manner: .shuffled,
      prepare: { device in
        device.isHeld = true
        held = device
      })
    let idle = try fixture.client()
    let early = try #require(NBDClient(path: fixture.path))
    #expect(early.receive(18) != nil)
    let client = try fixture.client()
    client.request(NBD.Command.write, cookie: 1, offset: 0, length: 4, payload: [1, 2, 3, 4])
    // The write is with the device when a later request of the same connection has been refused.
    #expect(client.call(99, cookie: 2)?.cookie == 2)
    fixture.server.stop()
    #expect(idle.drain() && early.drain())
    client.request(NBD.Command.read, cookie: 3, offset: 0, length: 4)
    let refusal = try #require(client.reply())
    #expect(refusal.cookie == 3 && refusal.error == NBD.Failure.shutdown && refusal.chunks == [NBD.Chunk.error])
    #expect(NBDClient(path: fixture.path) == nil)
    #expect(fixture.server.perform { held?.isHeld = false })
    #expect(client.reply() == NBDClient.Reply(cookie: 1) && client.drain())
    #expect(fixture.stop())
  }

  @Test func aStopDoesNotWaitForEver() throws {
    let fixture = try NBDFixture(manner: .shuffled, configure: { $0.drainTimeout = 20 }, prepare: { $0.isHeld = true })
    let client = try fixture.client()
    client.request(NBD.Command.flush)
    #expect(client.call(99, cookie: 2)?.cookie == 2)
    #expect(!fixture.stop())
    #expect(client.drain())
  }

  @Test(arguments: MemoryDevice.Manner.allCases)
  func spoiledStreamsHurtNobody(manner: MemoryDevice.Manner) throws {
    let fixture = try NBDFixture(size: 1 << 20, manner: manner)
    let witness = try fixture.client("disk@snap")
    var random = Seeded(99)
    let streams = NBDStreams.handshakes + [NBDStreams.qemu.bytes + NBDStreams.requests.bytes]
    for round in 0..<200 {
      var stream = NBDStreams.mutate(streams[round % streams.count], &random)
      if round % 2 == 0 { stream = NBDStreams.qemu.bytes + NBDStreams.mutate(NBDStreams.requests.bytes, &random) }
      let client = try #require(NBDClient(path: fixture.path))
      client.send(stream)
      client.finishSending()
      #expect(client.drain())
      if round % 50 == 0 { #expect(witness.call(NBD.Command.read, length: 9)?.data == [UInt8](repeating: 0, count: 9)) }
    }
    #expect(fixture.stop())
  }

  @Test func listenAddresses() throws {
    #expect(ListenAddress("unix:/a/b") == .unix(path: "/a/b"))
    #expect(ListenAddress("tcp:[::1]:10809") == .tcp(host: "::1", port: 10809))
    for bad in ["", "unix:", "tcp:1", "tcp::1", "tcp:host:70000", "http:x"] { #expect(ListenAddress(bad) == nil) }
    #expect(throws: NBDServerError.self) {
      try NBDServer(listening: [.unix(path: String(repeating: "x", count: 200))], exports: MemoryExports([]))
    }
    // A socket in use is not taken over; one that was left behind is.
    let fixture = try NBDFixture()
    #expect(throws: NBDServerError.self) { try NBDServer(listening: [.unix(path: fixture.path)], exports: MemoryExports([])) }
    #expect(fixture.stop() && access(fixture.path, F_OK) != 0)
    let left = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = try #require(sockaddr_un(path: fixture.path))
    #expect(address.withAddress { bind(left, $0, $1) } == 0)
    close(left)
    #expect(try NBDServer(listening: [.unix(path: fixture.path)], exports: MemoryExports([])).addresses.count == 1)
  }
}
