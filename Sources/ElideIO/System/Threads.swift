import CElide
import Glibc

/// A thread that somebody must `join`, once.
package struct JoinableThread: Sendable {
  fileprivate let thread: pthread_t
  /// Waits for its end.
  package func join() { pthread_join(thread, nil) }
}

/// Starts a plain thread. The name (15 bytes are kept) shows in `top -H` and in core dumps.
package func spawnThread(name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) -> JoinableThread {
  final class Box {
    let name: String
    let body: @Sendable () -> Void
    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
  var thread = pthread_t()
  let box = Unmanaged.passRetained(Box(name, body))
  let code = pthread_create(
    &thread, nil,
    { raw in
      guard let raw else { return nil }
      let box = Unmanaged<Box>.fromOpaque(raw).takeRetainedValue()
      elide_name_thread(box.name)
      box.body()
      return nil
    }, box.toOpaque())
  if code != 0 {
    box.release()
    throw Errno(code)
  }
  return JoinableThread(thread: thread)
}
