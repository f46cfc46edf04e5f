import ElideIO
import Glibc

/// A guest of a block device: draws requests, keeps some in flight, and holds every answer against the model.
///
/// A request that fails stays in flight for the model: it happened or it did not. Whether failing was all right is for the
/// world to say (`mayFail`). One thread steps a simulated world.
package final class SimGuest: CompletionSink {
  private struct Flight {
    var request: GuestRequest
    var buffer: UnsafeMutableRawBufferPointer
    var operation = -1  // of the model
    var mark: UInt64 = 0
  }

  package var model: DeviceModel
  package var workload: Workload
  /// A wrong answer, the first one.
  package private(set) var fault: String?
  package private(set) var completed: UInt64 = 0
  package private(set) var failed: UInt64 = 0
  package private(set) var trace = TraceHash()
  /// Whether an error is an acceptable answer just now.
  package var mayFail: () -> Bool = { false }
  /// Whether a write may be refused for want of space just now. It is in the model as one that failed: there in part, or not.
  package var mayRefuse: () -> Bool = { false }
  /// Writes refused so.
  package private(set) var refused: UInt64 = 0

  private var flights: [UInt64: Flight] = [:]
  private var nextToken: UInt64 = 1
  private var graveyard: [UnsafeMutableRawBufferPointer] = []

  package init(size: Int, seed: UInt64) {
    model = DeviceModel(size: size)
    workload = Workload(size: size, seed: seed)
  }
  /// A guest of a device that holds something already.
  package init(contents: [[UInt8]], size: Int, seed: UInt64) {
    model = DeviceModel(contents: contents, size: size)
    workload = Workload(size: size, seed: seed)
  }

  /// The device grew.
  package func grow(to size: Int) {
    model.grow(to: size)
    workload.size = model.size
  }

  deinit {
    for (_, f) in flights { f.buffer.deallocate() }
    for b in graveyard { b.deallocate() }
  }

  package var inFlight: Int { flights.count }
  package var writesInFlight: Int { flights.values.reduce(0) { $0 + ($1.operation >= 0 ? 1 : 0) } }

  /// Submits the next request of the workload, or the given one.
  package func submit(_ device: some BlockDevice, _ given: GuestRequest? = nil) {
    let r = given ?? workload.next()
    let token = nextToken
    nextToken += 1
    var flight = Flight(
      request: r,
      buffer: .allocate(byteCount: max(1, r.operation == .read || r.operation == .write ? r.length : 1), alignment: 4096))
    switch r.operation {
    case .write:
      r.content.fill(UnsafeMutableRawBufferPointer(rebasing: flight.buffer[..<r.length]))
      flight.operation = model.submitWrite(offset: r.offset, length: r.length, bytes: UnsafeRawBufferPointer(flight.buffer))
    case .writeZeroes, .trim:
      flight.operation = model.submitWrite(offset: r.offset, length: r.length, bytes: nil)
    case .flush: flight.mark = model.submitFlush()
    case .read, .prefetch: flight.mark = model.tick()
    }
    trace.note(UInt64(r.operation.rawValue) << 56 ^ UInt64(r.offset) << 24 ^ UInt64(r.length))
    flights[token] = flight
    let request = BlockRequest(
      operation: r.operation, forceUnitAccess: r.forceUnitAccess, noHole: r.noHole, offset: UInt64(r.offset),
      length: UInt64(r.length), buffer: flight.buffer.baseAddress, token: token)
    if case .done(let error) = device.submit(request) { complete(token: token, error: error) }
  }

  package func complete(token: UInt64, error: Int32) {
    guard let f = flights.removeValue(forKey: token) else {
      note("request \(token) was completed twice, or never submitted")
      return
    }
    trace.note(token << 8 ^ UInt64(UInt32(bitPattern: error)))
    // The device may be in the middle of this buffer's use by others (it must not, after completing).
    defer { f.buffer.deallocate() }
    if error != 0 {
      failed += 1
      if f.operation >= 0 { model.fail(f.operation) }
      if error == ENOSPC && f.operation >= 0 { refused += 1 }
      if !mayFail() && !(error == ENOSPC && f.operation >= 0 && mayRefuse()) {
        note("\(f.request.operation) of \(f.request.length) bytes at \(f.request.offset) failed: \(Errno(error))")
      }
      return
    }
    completed += 1
    switch f.request.operation {
    case .write, .writeZeroes, .trim: model.acknowledge(f.operation, durable: f.request.forceUnitAccess)
    case .flush: model.flushed(f.mark)
    case .read: check(f)
    case .prefetch: break
    }
  }

  private func check(_ f: Flight) {
    let block = DeviceModel.blockBytes
    var at = f.request.offset
    let end = f.request.offset + f.request.length
    while at < end {
      let b = at / block
      let inside = at % block
      let n = min(block - inside, end - at)
      let part = UnsafeRawBufferPointer(rebasing: f.buffer[(at - f.request.offset)..<(at - f.request.offset + n)])
      if n == block {
        if let wrong = model.faultOfRead(b, hash: DeviceModel.hash(part), start: f.mark) { note("read: \(wrong)") }
      } else {
        if let bytes = model.settled(b, before: f.mark), !bytes[inside..<inside + n].elementsEqual(part) {
          note("read: bytes of block \(b) differ")
        }
      }
      at += n
    }
  }

  private func note(_ text: String) { fault = fault ?? text }

  /// The device is gone, with all that was in flight.
  package func crash() {
    for token in flights.keys.sorted() { if let f = flights.removeValue(forKey: token) { graveyard.append(f.buffer) } }
  }

  /// Why a device could not be read.
  package struct Unreadable: Error, CustomStringConvertible {
    package let offset: Int
    /// nil: no answer came.
    package let error: Errno?
    package var description: String { "reading at \(offset): \(error.map { "\($0)" } ?? "no answer")" }
  }

  /// Reads everything, block by block. `pump` makes progress on queued reads.
  package static func readAll(_ device: some BlockDevice, pump: () -> Void) throws(Unreadable) -> [[UInt8]] {
    let sink = Collector()
    let before = device.sink
    device.sink = sink
    defer { device.sink = before }
    let size = Int(device.size)
    let chunk = 16 * DeviceModel.blockBytes
    let all = UnsafeMutableRawBufferPointer.allocate(byteCount: size + DeviceModel.blockBytes, alignment: 4096)
    defer { all.deallocate() }
    all.initializeMemory(as: UInt8.self, repeating: 0)
    for at in stride(from: 0, to: size, by: chunk) {
      sink.result = nil
      let request = BlockRequest(
        operation: .read, offset: UInt64(at), length: UInt64(min(chunk, size - at)), buffer: all.baseAddress.map { $0 + at },
        token: 1)
      if case .done(let error) = device.submit(request) { sink.result = error }
      device.commit()
      var patience = 10_000
      while sink.result == nil, patience > 0 {
        pump()
        patience -= 1
      }
      guard sink.result == 0 else { throw Unreadable(offset: at, error: sink.result.map { Errno($0) }) }
    }
    return stride(from: 0, to: size, by: DeviceModel.blockBytes).map {
      [UInt8](all[$0..<$0 + DeviceModel.blockBytes])
    }
  }

  private final class Collector: CompletionSink {
    var result: Int32?
    func complete(token: UInt64, error: Int32) { result = error }
  }
}
