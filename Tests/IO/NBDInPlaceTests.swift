import Glibc
import MemoryDevice
import Testing

@testable import ElideIO

/// Large reads that go from a file into the socket without a copy.
@Suite struct NBDInPlaceTests {
  private static let size = 8 << 20
  private let contents: [UInt8] = {
    var random = Seeded(3)
    return (0..<size / 8).flatMap { _ in withUnsafeBytes(of: random.next()) { Array($0) } }
  }()

  /// A device that holds `contents`, and is asked for extents of these lengths.
  private func fixture(_ lengths: [Int], manner: MemoryDevice.Manner = .immediate) throws -> (NBDFixture, MemoryDevice) {
    var device: MemoryDevice?
    let fixture = try NBDFixture(size: UInt64(Self.size), manner: manner, inFile: true, prepare: { device = $0 })
    let disk = try #require(device)
    disk.extentLengths = lengths
    let client = try fixture.client()
    #expect(client.write(contents, at: 0) == 0)
    return (fixture, disk)
  }

  /// One piece, many short ones, long and short in turn, and so many that the device gives up.
  @Test(arguments: [[1 << 30], [4096], [65536, 4096, 8192, 4096], [4096, 1 << 20], [28672], [512]], [true, false])
  func readsAreWhatWasWritten(lengths: [Int], structured: Bool) throws {
    let (fixture, device) = try fixture(lengths)
    let client = try fixture.client(structured: structured)
    var random = Seeded(7)
    var wire = NBDWire()
    var expected: [UInt64: Range<Int>] = [:]
    for cookie in 0..<60 as Range<UInt64> {
      let count = [4096, 65536, 100_000, 1 << 20, 262_144].randomElement(using: &random) ?? 1
      let start = Int.random(in: 0...Self.size - count, using: &random)
      expected[cookie] = start..<start + count
      client.reads[cookie] = (UInt64(start), count)
      wire.request(NBD.Command.read, cookie: cookie, offset: UInt64(start), length: UInt32(count))
    }
    #expect(client.send(wire.bytes))
    for _ in 0..<60 {
      let reply = try #require(client.reply())
      let known = expected.removeValue(forKey: reply.cookie)
      let range = try #require(known)
      #expect(reply.error == 0 && reply.data == Array(contents[range]))
    }
    #expect(fixture.stop())
    #expect(device.counts.inPlace > 10 || lengths == [512])
    #expect(fixture.server.statistics.reads == 60)
  }

  /// The client asks for more than the socket holds before it takes anything: what does not fit is copied, and nothing is lost,
  /// doubled or out of order.
  @Test(arguments: [[1 << 30], [16384], [65536, 4096, 8192, 4096]], MemoryDevice.Manner.allCases)
  func aClientThatDoesNotTakeItsReplies(lengths: [Int], manner: MemoryDevice.Manner) throws {
    let (fixture, device) = try fixture(lengths, manner: manner)
    let client = try fixture.client(structured: true)
    var wire = NBDWire()
    for cookie in 0..<48 as Range<UInt64> {
      client.reads[cookie] = (cookie << 16, 1 << 20)
      wire.request(NBD.Command.read, cookie: cookie, offset: cookie << 16, length: 1 << 20)
    }
    #expect(client.send(wire.bytes))
    var seen: Set<UInt64> = []
    for _ in 0..<48 {
      let reply = try #require(client.reply())
      let start = Int(reply.cookie) << 16
      #expect(reply.error == 0 && reply.data == Array(contents[start..<start + 1 << 20]))
      seen.insert(reply.cookie)
    }
    #expect(seen.count == 48)
    #expect(fixture.stop() && device.counts.inPlace > 0)
  }

  /// Somebody cut the file off below the server: the header is out, so that connection ends; the server goes on.
  @Test(arguments: [[1 << 30], [16384]])
  func aFileThatEndsEarlyEndsTheConnection(lengths: [Int]) throws {
    let (fixture, device) = try fixture(lengths)
    let client = try fixture.client()
    #expect(ftruncate(device.file, 1 << 20) == 0)
    client.reads[1] = (3 << 20, 1 << 20)
    client.request(NBD.Command.read, cookie: 1, offset: 3 << 20, length: 1 << 20)
    #expect(client.reply() == nil)
    #expect(try fixture.client().read(1 << 20, at: 0) == Array(contents[..<(1 << 20)]))
    #expect(fixture.stop())
  }

  /// Requests of one connection that are answered in place and those that are not keep the slots and the memory balanced.
  @Test func slotsAndMemoryComeBack() throws {
    let (fixture, _) = try fixture([1 << 30])
    let client = try fixture.client()
    for i in 0..<400 {
      let count = [4096, 131_072][i % 2]
      #expect(client.read(UInt32(count), at: UInt64(i) << 12)?.count == count)
    }
    #expect(fixture.stop())
  }
}
