import ElideIO
import Glibc

/// Brings blocks that a read waits for into the cache, on the fetch lane; the answer goes straight to the front.
enum FetchJob {
  static func submit(
    _ fetcher: Fetcher, _ executor: any Executor, _ front: Mailbox<FrontMessage>, _ segment: UInt64, _ r: UInt32, _ count: UInt32
  ) {
    executor.submit(.fetch) {
      var code: Int32 = 0
      do throws(SegmentError) {
        // Bytes instead of a cached block mean that the disk is full: the front reads from files only.
        if try fetcher.fetch(segment: segment, r: r, count: count) != nil { code = ENOSPC }
      } catch { code = errno(of: error) }
      // The box has room for more than a front has requests.
      _ = front.send(.fetched(segment: segment, r: r, count: count, error: code))
    }
  }

  /// The errno that a failed fetch means to a guest: a full disk is told apart, all else is an I/O error.
  private static func errno(of error: SegmentError) -> Int32 {
    if case .disk(let e) = error, e == .noSpace { return ENOSPC }
    return EIO
  }
}
