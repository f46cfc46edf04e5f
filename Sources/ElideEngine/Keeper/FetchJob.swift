import ElideIO
import Glibc

/// Brings blocks that a read waits for into the cache, on the fetch lane; the answer goes straight to the front. How many
/// are under way is the front's to limit: it alone asks for them.
enum FetchJob {
  static func submit(
    _ fetcher: Fetcher, _ executor: any Executor, _ front: Mailbox<FrontMessage>, _ segment: UInt64, _ r: UInt32, _ count: UInt32
  ) {
    executor.submit(.fetch) {
      var code: Int32 = 0
      var bytes: [UInt8] = []
      do throws(SegmentError) {
        // Bytes instead of a cached block: the disk took none, and the read is answered from memory.
        if let lent = try fetcher.fetch(segment: segment, r: r, count: count) { bytes = lent }
      } catch { code = EIO }
      // The box has room for more than a front has fetches under way.
      _ = front.send(.fetched(segment: segment, r: r, count: count, error: code, bytes: bytes))
    }
  }
}

extension FetchJob {
  /// Brings blocks that will be read soon, or an encoding, on the lane for what nobody waits for. How many are under way is the
  /// front's to limit, too.
  static func submitAhead(
    _ fetcher: Fetcher, _ executor: any Executor, _ front: Mailbox<FrontMessage>, _ segment: UInt64, _ r: UInt32, _ count: UInt32
  ) {
    executor.submit(.ahead) { _ = front.send(.aheadDone(fetcher.ahead(segment: segment, r: r, count: count))) }
  }
}
