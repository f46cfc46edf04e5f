import ElideIO
import Synchronization

/// Space that is kept so that a full disk can be got out of: a file that holds nothing, `<data>/reserve`, for all volumes of a
/// host. When a journal cannot commit for want of space it is given up; then what is sealed can go on being encoded, uploaded
/// and handed to the cache, which gives back. It is made again when there is room once more.
///
/// Safe on any thread, and shared by the processes of a data directory: the file's name is all there is. A crash leaves it or
/// not, and the next process looks.
package final class SpaceReserve: Sendable {
  private let path: String
  private let files: any Files
  private let bytes: UInt64
  private let isMade = Mutex(false)

  package init(path: String, files: any Files, bytes: UInt64) {
    self.path = path
    self.files = files
    self.bytes = bytes
  }

  /// Gives the space up; false when there is none to give.
  package func spend() -> Bool {
    isMade.withLock { made in
      made = false
      guard files.exists(path) else { return false }
      do throws(Errno) { try files.remove(path) } catch { return false }
      return true
    }
  }

  /// Makes it where it is not there. Before anything else takes space: what was spent is for journals.
  package func refill() throws(Errno) {
    let failure = isMade.withLock { made -> Errno? in
      if made { return nil }
      do throws(Errno) {
        let file = try files.open(path, .create)
        defer { files.close(file) }
        if try files.size(file) < bytes { try files.allocate(file, size: bytes) }
        made = true
        return nil
      } catch {
        try? files.remove(path)
        return error
      }
    }
    if let failure { throw failure }
  }
}
