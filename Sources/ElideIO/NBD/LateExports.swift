import Synchronization

/// What a look at an export finds.
package enum ExportLook {
  case found(ExportInfo)
  case absent
  /// It is being opened; the provider says when to look again.
  case opening
}

/// Exports that take time to open, for a provider that must not wait: each is opened on a thread of its own, a few at
/// once, and given back when nobody uses it. Owned by the server's thread.
///
/// What cannot be opened is told once, to whoever looks next; a later look tries again.
package final class LateExports<Opened> {
  /// Made on the thread that opened it, taken by the server's thread, once.
  private struct Handed: @unchecked Sendable { let value: Opened? }
  private final class Arrivals: Sendable {
    let done = Mutex<[(name: String, handed: Handed)]>([])
  }

  private let limit: Int
  private let make: @Sendable (String) -> Opened?
  private let giveBack: (Opened) -> Void
  private let ready: @Sendable () -> Void
  private let arrivals = Arrivals()
  private var opening: [String: JoinableThread] = [:]
  private var open: [String: Opened] = [:]
  private var failed: Set<String> = []

  /// - Parameters:
  ///   - limit: openings at once; whoever wants one more waits for one of them to end.
  ///   - ready: called from any thread when something that was `.opening` should be looked at again.
  ///   - make: opens an export of that name; nil when there is none. May block.
  ///   - giveBack: lets it go, on the server's thread; must not wait for anything far.
  package init(
    limit: Int = 4, ready: @escaping @Sendable () -> Void, make: @escaping @Sendable (String) -> Opened?,
    giveBack: @escaping (Opened) -> Void
  ) {
    self.limit = limit
    self.ready = ready
    self.make = make
    self.giveBack = giveBack
  }

  package enum Look {
    case found(Opened)
    case absent, opening
  }

  package var count: Int { open.count + opening.count }

  package func look(_ name: String) -> Look {
    collect()
    if let found = open[name] { return .found(found) }
    if failed.remove(name) != nil { return .absent }
    if opening[name] == nil, opening.count < limit, !begin(name) { return .absent }
    return .opening
  }

  private func begin(_ name: String) -> Bool {
    let (make, arrivals, ready) = (make, arrivals, ready)
    guard
      let thread = try? spawnThread(
        name: "elide-open",
        {
          let handed = Handed(value: make(name))
          arrivals.done.withLock { $0.append((name, handed)) }
          ready()
        })
    else { return false }
    opening[name] = thread
    return true
  }

  private func collect() {
    let done = arrivals.done.withLock { d in
      defer { d = [] }
      return d
    }
    for (name, handed) in done {
      // It has nothing left to do.
      opening.removeValue(forKey: name)?.join()
      if let value = handed.value { open[name] = value } else { failed.insert(name) }
    }
  }

  /// Gives back what nobody uses.
  package func tidy(isUsed: (Opened) -> Bool) {
    collect()
    failed = []
    for name in open.keys.sorted() {
      if let value = open[name], !isUsed(value) {
        open[name] = nil
        giveBack(value)
      }
    }
  }
}
