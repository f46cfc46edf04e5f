import ElideEvents
import ElideIO
import ElideProjections
import Glibc

/// Turns a raw disk image into a volume: segments of 32 MiB in LBA order, zeros and duplicates found, encoded and uploaded
/// beside the reading. The file is read twice: once for the digest that the genesis names, once for the data, which must
/// have the same digest, so that a file that changes meanwhile is noticed.
///
/// Memory: one segment's plain bytes, and the bodies in flight. A crash leaves a name that is `importing`, which its next use
/// ends, and objects in the store that no page names.
struct RawImport {
  private static let segmentBlocks = 8192
  private static let block = 4096

  private let engine: Engine
  private let file: FileID
  private let path: String
  let size: UInt64
  private let progress: ProgressHandler

  init(_ engine: Engine, file: FileID, path: String, progress: @escaping ProgressHandler) throws(ElideError) {
    self.engine = engine
    self.file = file
    self.path = path
    self.progress = progress
    do throws(Errno) { size = try engine.world.files.size(file) } catch { throw ElideError(error, doing: "read \(path)") }
    guard size >= 512, size % 512 == 0, size <= 1 << 50 else {
      throw ElideError(.usage, "\(path) has \(size) bytes: a disk image has a multiple of 512, at least one and at most 2^50")
    }
  }

  /// SHA-256 of the file: what the genesis names.
  func digest() throws(ElideError) -> Digest { try readAll(.digest) { (_, _, _) throws(ElideError) in } }

  /// Seals, encodes and uploads everything, and publishes it. Returns the cut that holds all of the image.
  func run(_ prepared: PreparedVolume, source: String, digest: Digest) throws(ElideError) -> Cut {
    let made = try prepared.begin { key in .imported(Genesis(size: size, key: key), source: source, digest: digest) }
    defer { made.close() }
    let again = try readAll(.seal) { (first, bytes, count) throws(ElideError) in try seal(made, first, bytes, count) }
    guard again == digest else { throw ElideError(.failed, "\(path) changed while it was read; nothing was imported") }
    try ship(made)
    return try made.publish(milliseconds: .max)
  }

  /// Reads the file in pieces of a segment, the last one padded with zeros to a whole block, and returns its SHA-256.
  private func readAll(
    _ step: WorkProgress.Step, _ body: (UInt64, UnsafeRawPointer, Int) throws(ElideError) -> Void
  ) throws(ElideError) -> Digest {
    let pieceBytes = Self.segmentBlocks * Self.block
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: pieceBytes, alignment: Self.block)
    defer { piece.deallocate() }
    guard let stream = SHA256Stream(), let base = piece.baseAddress else { throw ElideError(.failed, "out of memory") }
    var offset: UInt64 = 0
    while offset < size {
      let want = Int(min(UInt64(pieceBytes), size - offset))
      let got: Int
      do throws(Errno) {
        got = try engine.world.files.read(file, into: UnsafeMutableRawBufferPointer(start: base, count: want), at: offset)
      } catch { throw ElideError(error, doing: "read \(path) at byte \(offset)") }
      guard got == want else { throw ElideError(.failed, "\(path) became shorter while it was read; nothing was imported") }
      stream.update(UnsafeRawBufferPointer(start: base, count: want))
      let blocks = (want + Self.block - 1) / Self.block
      if blocks * Self.block > want { memset(base + want, 0, blocks * Self.block - want) }
      try body(offset / UInt64(Self.block), base, blocks)
      offset += UInt64(want)
      guard progress(WorkProgress(step: step, done: offset, total: size)) else {
        throw ElideError(.interrupted, "interrupted; nothing was imported")
      }
    }
    return stream.finish()
  }

  /// One segment; waits for uploads first when too much is not sent.
  private func seal(_ made: NewVolume, _ first: UInt64, _ bytes: UnsafeRawPointer, _ count: Int) throws(ElideError) {
    let keeper = made.keeper
    // Four segments ahead of the store keep both busy and the memory small.
    let limit = UInt64(4 * Self.segmentBlocks * Self.block)
    var stopped = false
    try made.drive {
      stopped = !progress(WorkProgress(step: .seal, done: first * UInt64(Self.block), total: size))
      return stopped || keeper.unsentBytes < limit
    }
    if stopped { throw ElideError(.interrupted, "interrupted; nothing was imported") }
    var builder = SegmentBuilder(segment: made.tables.state.nextSegment)
    var places: [UnsafeRawPointer] = []
    var duplicates: UInt64 = 0
    for i in 0..<count {
      let block = bytes + i * Self.block
      // Zeros at the end of a device that never was written are nothing to record.
      switch builder.addBlock(lba: first + UInt64(i), block, dedup: keeper.duplicate) {
      case .data: places.append(block)
      case .duplicate: duplicates += 1
      case .zero, .repeated: break
      }
    }
    if builder.blockCount == 0, builder.runs.allSatisfy({ $0.kind == .zero }) { return }
    let done: Bool
    do throws(KeeperHalt) { done = try keeper.sealImported(builder, duplicates: duplicates) { places[Int($0)] } } catch {
      throw ElideError(error.kind, error.detail)
    }
    if !done { throw ElideError(.tryLater, "the disk of \(engine.directory.root) is full; nothing was imported") }
    while keeper.step() {}
  }

  /// Waits until the store has every body.
  private func ship(_ made: NewVolume) throws(ElideError) {
    let keeper = made.keeper
    let total = max(1, keeper.unsentBytes)
    var stopped = false
    try made.drive {
      stopped = !progress(WorkProgress(step: .upload, done: total - min(total, keeper.unsentBytes), total: total))
      return keeper.unsentBytes == 0 || stopped
    }
    if stopped { throw ElideError(.interrupted, "interrupted; nothing was imported") }
  }
}

extension Engine {
  /// Imports the raw image at `path` as a new volume `name`. When it returns, the store has all of it, and any host can
  /// open or fork it.
  package func importImage(name: String, path: String, progress: @escaping ProgressHandler) throws(ElideError) -> VolumeSummary {
    try made(Lifecycle(self).perform(.importImage(name: name, source: "raw:\(path)"), progress: progress))
  }
}
