import Glibc
import Synchronization

/// Ctrl-C and SIGTERM as a flag, for work that stops at the next good moment.
enum Interrupt {
  private static let flag = Atomic<Bool>(false)
  static var isSet: Bool { flag.load(ordering: .relaxed) }

  /// A second signal kills, as it would have without this.
  static func install() {
    signal(SIGINT, onSignal)
    signal(SIGTERM, onSignal)
  }
  /// As the signal would: for whoever is asked to end by other means.
  static func raise() { flag.store(true, ordering: .relaxed) }
}

private func onSignal(_ number: Int32) {
  Interrupt.raise()
  signal(number, SIG_DFL)
}
