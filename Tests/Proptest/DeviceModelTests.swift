import Simulator
import Testing

/// The oracle must be able to say no.
@Suite struct DeviceModelTests {
  private func write(_ m: inout DeviceModel, _ block: Int, _ value: UInt8, blocks: Int = 1) -> Int {
    let bytes = [UInt8](repeating: value, count: 4096 * blocks)
    return bytes.withUnsafeBytes { m.submitWrite(offset: block * 4096, length: bytes.count, bytes: $0) }
  }
  private func h(_ value: UInt8) -> UInt64 { DeviceModel.hash([UInt8](repeating: value, count: 4096)) }

  @Test func onlyPrefixesAreAllowed() {
    var m = DeviceModel(size: 4096 * 3)
    for (block, value) in [(0, 1), (1, 2), (0, 3)] as [(Int, UInt8)] { m.acknowledge(write(&m, block, value)) }
    #expect(m.faultAfterCrash([h(0), h(0), h(0)]) == nil)
    #expect(m.faultAfterCrash([h(1), h(0), h(0)]) == nil)
    #expect(m.faultAfterCrash([h(1), h(2), h(0)]) == nil)
    #expect(m.faultAfterCrash([h(3), h(2), h(0)]) == nil)
    #expect(m.faultAfterCrash([h(0), h(2), h(0)]) != nil)  // the second without the first
    #expect(m.faultAfterCrash([h(3), h(0), h(0)]) != nil)  // the third without the second
    #expect(m.faultAfterCrash([h(3), h(2), h(9)]) != nil)  // never written
  }

  @Test func whatWasFlushedStays() {
    var m = DeviceModel(size: 4096 * 2)
    m.acknowledge(write(&m, 0, 1))
    let mark = m.submitFlush()
    m.acknowledge(write(&m, 1, 2))
    m.flushed(mark)
    #expect(m.faultAfterCrash([h(0), h(0)]) != nil)
    #expect(m.faultAfterCrash([h(1), h(0)]) == nil)
    #expect(m.faultAfterCrash([h(1), h(2)]) == nil)
    m.keepAcknowledged()
    #expect(m.faultAfterCrash([h(1), h(0)]) != nil)
  }

  @Test func writesInFlightAreInOrOutPerBlock() {
    var m = DeviceModel(size: 4096 * 3)
    m.acknowledge(write(&m, 0, 1, blocks: 3))
    m.keepAcknowledged()
    _ = write(&m, 0, 2, blocks: 2)
    #expect(m.faultAfterCrash([h(1), h(2), h(1)]) == nil)
    #expect(m.faultAfterCrash([h(2), h(1), h(1)]) == nil)
    #expect(m.faultAfterCrash([h(2), h(2), h(2)]) != nil)
  }

  @Test func forcedWritesStayWithAllBeforeThem() {
    var m = DeviceModel(size: 4096 * 2)
    m.acknowledge(write(&m, 0, 1))
    m.acknowledge(write(&m, 1, 2), durable: true)
    #expect(m.faultAfterCrash([h(0), h(2)]) != nil)
    #expect(m.faultAfterCrash([h(1), h(0)]) != nil)
    #expect(m.faultAfterCrash([h(1), h(2)]) == nil)
  }

  @Test func aSupersededVersionThatComesBackIsFound() {
    var m = DeviceModel(size: 4096 * 2)
    for v in 1...4 as ClosedRange<UInt8> { m.acknowledge(write(&m, 0, v)) }
    m.acknowledge(write(&m, 1, 7))
    #expect(m.faultAfterCrash([h(2), h(7)]) != nil)
    #expect(m.faultAfterCrash([h(2), h(0)]) == nil)
    // The same contents again make the state of either time acceptable.
    m.acknowledge(write(&m, 0, 2))
    #expect(m.faultAfterCrash([h(2), h(7)]) == nil)
  }

  @Test func readsSeeTheLastOrSomethingInFlight() {
    var m = DeviceModel(size: 4096)
    m.acknowledge(write(&m, 0, 1))
    m.acknowledge(write(&m, 0, 2))
    let inFlight = write(&m, 0, 3)
    let start = m.tick()
    #expect(m.faultOfRead(0, hash: h(1), start: start) != nil)
    #expect(m.faultOfRead(0, hash: h(2), start: start) == nil)
    #expect(m.faultOfRead(0, hash: h(3), start: start) == nil)
    m.acknowledge(inFlight)
    #expect(m.faultOfRead(0, hash: h(2), start: start) == nil)
    #expect(m.faultOfRead(0, hash: h(2), start: m.tick()) != nil)
  }
}
