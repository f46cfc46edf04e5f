import Synchronization

/// What must come out right between hosts: the situations 1 to 35 of the design, and the traces D1 to D13 of its model check.
/// Each is counted when a run met it, or by the test that plays it; a test of all fails when one was not met.
package enum Situation: String, CaseIterable, Sendable {
  case twoForces = "1 two hosts force the same owner"
  case forceFindsAnother = "2 a force meant for one finds another"
  case lateDuplicate = "3 a delayed duplicate of a committed request"
  case answerLost = "4 the answer to a command is lost"
  case givenUp = "5 timed out, then the operator gives up"
  case twoCreates = "6 two creates race"
  case crashAfterCommit = "7 crash after commit, before the local steps"
  case crashBeforeCommit = "8 crash before commit"
  case manyClaims = "9 all claim at once"
  case claimantDies = "10 a claimant dies before its first page"
  case chainOfRecoveries = "11 a chain of recoveries that each crash"
  case displacedComesBack = "12 a displaced owner comes back"
  case twins = "13 twins"
  case pageAfterFence = "14 an upload's page lands after the fence"
  case reaperPaused = "15 a reaper paused across a fence"
  case clockWrong = "16 clocks wrong by a day, and jumping back"
  case staleRead = "17 stale reads of list and slot"
  case multipart = "18 partial and abandoned multipart uploads"
  case newestPageWrong = "19 newest page missing, corrupt, or regressed"
  case objectMissingAtClaim = "20 public key or lineage object missing at claim"
  case hostKeyLost = "21 host key lost"
  case renameCut = "22 rename crashed at each step, target contended, with pins"
  case forkAgainstPurge = "23 fork against purge"
  case removeUnderAnother = "24 remove of a volume another one is built on"
  case halfBuilt = "25 a half-built volume is never opened"
  case stopAgainstWrite = "26 stop against the last write"
  case importCut = "27 import crash"
  case poison = "28 a poison entry in the next slot"
  case rolledBack = "29 log tail truncated or bucket rolled back"
  case hole = "30 an entry deleted in the middle"
  case noStoreAtStart = "31 store unreachable at start"
  case clientAtStop = "32 client still connected at stop"
  case imageOfMany = "33 a readonly name opened by many"
  case fromTheFuture = "34 an entry kind from the future"
  case tenThousandEntries = "35 10,000 entries open in the requests of 64"
  case d1 = "D1 a page between fence and recovery"
  case d2 = "D2 the basis is of the newest episode"
  case d3 = "D3 a pin below the floor"
  case d4 = "D4 an orphan fork pin is decided by its slot"
  case d5 = "D5 a rename carries the pins"
  case d6 = "D6 a materialized volume keeps its pin"
  case d7 = "D7 a page is put again as it was frozen"
  case d8 = "D8 an owner adopts after a restart, in any state"
  case d9 = "D9 a dead recoverer or purger is taken over from"
  case d10 = "D10 a later process never decides again"
  case d11 = "D11 a hint that lies"
  case d12 = "D12 no basis below a reap or an unreadable page"
  case d13 = "D13 a displaced volume is kept whole"

  /// Why nothing can meet it: what it is about is not built.
  package var isNotBuilt: String? {
    switch self {
    case .multipart: "the store client makes no multipart uploads; a directory's temporaries are in LocalStoreTests"
    case .d6: "nothing materializes volumes"
    default: nil
    }
  }

  private static let counts = Mutex<[Situation: Int]>([:])

  /// It was met `times` times, and came out right as far as the caller looked.
  package static func met(_ situations: Situation..., times: Int = 1) {
    guard times > 0 else { return }
    counts.withLock { for s in situations { $0[s, default: 0] += times } }
  }
  package static var table: [(situation: Situation, count: Int)] {
    counts.withLock { counts in allCases.map { ($0, counts[$0] ?? 0) } }
  }
  package static var missing: [Situation] { table.filter { $0.count == 0 && $0.situation.isNotBuilt == nil }.map(\.situation) }
}
