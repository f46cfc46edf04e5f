import CElide
import ElideIO

/// One flush of the write-ahead log on the sync lane: the files that were dirty when it began, in order. Made once and
/// used again for each round, so that a flush allocates nothing.
///
/// Shared by the I/O thread and the lane, one at a time: the I/O thread fills it and submits, the lane runs it and raises
/// `finished`, then it is the I/O thread's again.
final class SyncRound: @unchecked Sendable {  // handed to and fro by the flag `finished`
  struct File {
    var number: UInt64
    var file: FileID
    /// Every frame up to this one is in the file.
    var frame: UInt64
  }
  private(set) var items: UnsafeMutablePointer<File>
  private(set) var count = 0
  /// 0, or the errno of the first file that failed; files after it were not synced.
  private(set) var error: Int32 = 0
  private(set) var failedAt = 0
  private let flag = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
  private let files: any Files
  private let wake: WakeEvent
  private var job: (@Sendable () -> Void)?
  static let capacity = 256

  init(files: any Files, wake: WakeEvent) {
    self.files = files
    self.wake = wake
    items = .allocate(capacity: Self.capacity)
    flag.initialize(to: 0)
    job = nil
  }
  deinit {
    items.deallocate()
    flag.deallocate()
  }

  func begin() {
    count = 0
    error = 0
    elide_store_release_u32(flag, 0)
  }

  /// False when it holds as many as it can; the next round takes the rest.
  func add(_ item: File) -> Bool {
    guard count < Self.capacity else { return false }
    items[count] = item
    count += 1
    return true
  }

  func submit(to executor: any Executor) {
    if job == nil { job = { self.run() } }
    if let job { executor.submit(.sync, job) }
  }

  /// The device is gone: a round that still runs keeps what it needs, and then nothing does.
  func retire() { job = nil }

  var isFinished: Bool { elide_load_acquire_u32(flag) != 0 }

  /// Runs it on the calling thread, instead of `submit`.
  func runHere() { sync() }

  private func run() {
    sync()
    wake.signal()
  }

  private func sync() {
    for i in 0..<count {
      do throws(Errno) { try files.sync(items[i].file) } catch {
        self.error = error.code
        failedAt = i
        break
      }
    }
    elide_store_release_u32(flag, 1)
  }
}
