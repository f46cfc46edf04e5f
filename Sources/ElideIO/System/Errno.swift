import Glibc

/// A system error number, as `errno(3)` names it.
package struct Errno: Error, Equatable, Hashable, Sendable, CustomStringConvertible {
  package let code: Int32
  package init(_ code: Int32) { self.code = code }

  package static let io = Errno(EIO)
  package static let notFound = Errno(ENOENT)
  package static let exists = Errno(EEXIST)
  package static let noSpace = Errno(ENOSPC)
  package static let invalid = Errno(EINVAL)

  /// The disk has no room, or this user no more of it.
  package var isWantOfSpace: Bool { code == ENOSPC || code == EDQUOT }

  /// The error of the C call that has just failed on this thread.
  package static var current: Errno { Errno(Glibc.errno) }

  package var description: String {
    var buffer = [CChar](repeating: 0, count: 128)
    // The POSIX strerror_r: it fills the buffer, and it does not touch the thread's errno.
    guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
    return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}
