import ElideIO
import Glibc

extension Errno {
  /// What every call answers between a simulated crash and the restart. No system call gives it.
  package static let crashed = Errno(9999)
}

/// How much of the call at which a crash is armed takes place.
package enum CrashPhase: CaseIterable, Sendable { case before, partly, after }

/// What a simulated call is told to do.
package enum FaultVerdict {
  case proceed
  case fail(Errno)
  /// Do so much of it, then throw `Errno.crashed`.
  case crash(CrashPhase)
}

/// Counts every call of a simulated host (files, store requests, journal commits) and decides which of them fail, or are
/// the last before a crash. One per host; `SimFiles`, `SimStore` and `SimJournalStore` of the host share it, so that "the
/// n-th call" runs over all of them.
///
/// A *site* is what is done and where: "write wal", "syncDirectory volumes", "put segments". Sites are counted, so that a
/// run can tell which faults it never met. One thread steps a simulated world, hence unchecked.
package final class SimFaults: @unchecked Sendable {
  package struct Tally: Sendable {
    package var calls: UInt64 = 0
    package var failed: UInt64 = 0
    package var crashed: UInt64 = 0
  }

  private var ids: [String: Int] = [:]
  private var names: [String] = []
  private var tallies: [Tally] = []
  private var mutates: [Bool] = []

  /// Calls so far, and those of them that change something: only at these a crash makes a difference.
  package private(set) var calls: UInt64 = 0
  package private(set) var mutations: UInt64 = 0
  /// A crash happened: nothing works until `restart`.
  package private(set) var isCrashed = false
  /// The site of the last fault or crash.
  package private(set) var lastSite = ""
  package private(set) var fired: UInt64 = 0
  /// The site of the first fault.
  package private(set) var firstFailed = ""

  private var crashAt: UInt64 = .max
  private var crashPhase = CrashPhase.before
  private var crashSite: String?
  private var failAt: UInt64 = .max
  private var failError = Errno.io
  private var failForGood = false
  private var siteRule: (prefix: String, nth: UInt64, error: Errno, forGood: Bool)?
  private var siteSeen: UInt64 = 0
  /// Each call whose site begins with the prefix fails with this chance in 2^16.
  private var rates: [(prefix: String, rate: UInt64, error: Errno)] = []
  private var random: SeededRandom

  package init(seed: UInt64 = 0) { random = SeededRandom(seed: seed) }

  // MARK: arming

  /// The `n`-th changing call from now on (1: the next) is the last before a crash.
  package func armCrash(after n: UInt64, _ phase: CrashPhase) {
    crashAt = mutations + n
    crashPhase = phase
  }
  /// The next changing call of a site that begins with `prefix` is the last before a crash.
  package func armCrash(site prefix: String, _ phase: CrashPhase) {
    crashSite = prefix
    crashPhase = phase
  }
  /// The `n`-th call from now on fails, once or with all that follow.
  package func armFailure(after n: UInt64, _ error: Errno, forGood: Bool = false) {
    failAt = calls + n
    failError = error
    failForGood = forGood
  }
  /// The `nth` call from now on of a site that begins with `prefix` fails.
  package func armFailure(site prefix: String, nth: UInt64 = 1, _ error: Errno, forGood: Bool = false) {
    siteRule = (prefix, nth, error, forGood)
    siteSeen = 0
  }
  /// Calls of sites that begin with `prefix` fail now and then.
  package func setRate(site prefix: String, per65536 rate: UInt64, _ error: Errno) { rates.append((prefix, rate, error)) }

  package func disarm() {
    crashAt = .max
    crashSite = nil
    failAt = .max
    siteRule = nil
    rates = []
  }

  /// Crashes between two calls.
  package func crashNow() {
    isCrashed = true
    lastSite = "between calls"
  }

  /// Calls work again. What the crash did to the files is `SimFiles.restart`'s business.
  package func restart() {
    isCrashed = false
    disarm()
  }

  // MARK: sites

  package func site(_ operation: String, _ place: String, mutates changes: Bool) -> Int {
    let name = place.isEmpty ? operation : "\(operation) \(place)"
    if let id = ids[name] { return id }
    let id = names.count
    ids[name] = id
    names.append(name)
    tallies.append(Tally())
    mutates.append(changes)
    return id
  }

  /// All sites met so far, in order of name.
  package var report: [(site: String, tally: Tally)] {
    names.sorted().map { ($0, tallies[ids[$0] ?? 0]) }
  }

  package func enter(_ site: Int) -> FaultVerdict {
    if isCrashed { return .fail(.crashed) }
    calls += 1
    tallies[site].calls += 1
    if mutates[site] {
      mutations += 1
      if mutations == crashAt || crashSite.map({ names[site].hasPrefix($0) }) ?? false {
        isCrashed = true
        tallies[site].crashed += 1
        lastSite = names[site]
        return .crash(crashPhase)
      }
    }
    guard let error = failure(site) else { return .proceed }
    tallies[site].failed += 1
    fired += 1
    lastSite = names[site]
    if firstFailed.isEmpty { firstFailed = names[site] }
    return .fail(error)
  }

  private func failure(_ site: Int) -> Errno? {
    if calls == failAt || (failForGood && calls > failAt) { return failError }
    if let rule = siteRule, names[site].hasPrefix(rule.prefix) {
      siteSeen += 1
      if siteSeen == rule.nth || (rule.forGood && siteSeen > rule.nth) { return rule.error }
    }
    for r in rates where names[site].hasPrefix(r.prefix) {
      if random.chance(r.rate, in: 65536) { return r.error }
    }
    return nil
  }
}
