import ElideIO
import ElideProjections

extension Engine {
  /// Reads every allocated block of a volume through its device: from the cache where it is local, from the store where it
  /// is not, each checked on the way. Blocks that cannot be read, or are not what was sealed, are faults with their place.
  package func verifyVolume(_ source: VolumeSource, progress: ProgressHandler) throws(ElideError) -> VerifyReport {
    let opened = try open(source)
    let result: Result<VerifyReport, ElideError>
    do throws(ElideError) { result = .success(try readAll(opened, progress)) } catch { result = .failure(error) }
    try opened.close(ship: false)
    return try result.get()
  }

  private func readAll(_ opened: OpenedVolume, _ progress: ProgressHandler) throws(ElideError) -> VerifyReport {
    var report = VerifyReport(volume: opened.volume)
    report.isAnchored = opened.isAnchored
    let device = opened.device
    let sink = ReadSink()
    device.sink = sink
    defer { device.sink = nil }
    let piece: UInt64 = 1 << 20
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: Int(piece), alignment: 4096)
    defer { buffer.deallocate() }
    var at: UInt64 = 0
    while at < device.size {
      guard progress(WorkProgress(step: .verify, done: at, total: device.size)) else {
        throw ElideError(.interrupted, "interrupted after \(report.blocks) blocks")
      }
      var extents: [BlockExtent] = []
      device.status(.allocation, offset: at, length: min(piece, device.size - at), limit: 1, into: &extents)
      guard let extent = extents.first, extent.length > 0 else { break }
      if extent.flags == 0 {
        let error = try read(opened, sink, buffer, at, extent.length)
        if error == 0 {
          report.blocks += (extent.length + 4095) / 4096
        } else {
          let place = "blocks \(at / 4096)...\((at + extent.length - 1) / 4096)"
          report.add(.init("map", at: place, "cannot be read: \(Errno(error))"))
        }
      }
      at += extent.length
    }
    return report
  }

  private func read(
    _ opened: OpenedVolume, _ sink: ReadSink, _ buffer: UnsafeMutableRawPointer, _ offset: UInt64, _ length: UInt64
  ) throws(ElideError) -> Int32 {
    sink.error = nil
    let request = BlockRequest(operation: .read, offset: offset, length: length, buffer: buffer, token: 1)
    if case .done(let error) = opened.device.submit(request) { return error }
    try opened.pump { sink.error != nil }
    return sink.error ?? 5
  }
}

private final class ReadSink: CompletionSink {
  var error: Int32?
  func complete(token: UInt64, error: Int32) { self.error = error }
}
