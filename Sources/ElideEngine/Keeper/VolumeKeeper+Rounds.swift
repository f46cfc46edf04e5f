import ElideEvents
import ElideIO
import ElideProjections

// A round makes what was written until now part of history: barrier (the front closes and syncs its file) ─▶ what was
// asked for goes into the journal (`snapshot_taken`, `resized`, after that file) ─▶ sealing up to that file ─▶ its point is
// known, and a page must reach it. Rounds follow each other; uploads and pages of earlier ones go on meanwhile.

/// A round in progress.
struct CutRound {
  enum Phase {
    case barrier(token: UInt64)
    case sealing(after: UInt64)
  }
  var phase: Phase
  var requests: [KeeperRequest]
  /// Taken in this round, to be answered when published.
  var snapshots: [(id: ULID, reply: Reply<SnapshotInfo>)] = []
  var cuts: [Reply<UInt64>] = []

  /// Somebody waits for it; rounds that begin by themselves have nobody.
  var isAwaited: Bool { !(requests.isEmpty && snapshots.isEmpty && cuts.isEmpty) }

  func refuse(_ error: ElideError) {
    for s in snapshots { s.reply.answer(.failure(error)) }
    for c in cuts { c.answer(.failure(error)) }
    for request in requests {
      switch request {
      case .cut(let reply): reply.answer(.failure(error))
      case .snapshot(_, _, let reply): reply.answer(.failure(error))
      case .resize(_, let reply): reply.answer(.failure(error))
      case .finish(_, let reply): reply.answer(.failure(error))
      }
    }
  }
}

/// Someone who waits until a page's cut reaches a point.
enum Awaiting {
  case cut(Reply<UInt64>)
  case snapshot(ULID, Reply<SnapshotInfo>)
}

extension VolumeKeeper {
  /// When the next round begins by itself.
  var roundDue: UInt64 {
    guard isServed, ending == nil, round == nil else { return .max }
    let c = context.configuration
    let seconds = waitingBytes > 0 && unsentBytes + unsealedClosedBytes >= c.pageBytes ? c.pageSeconds : c.idlePageSeconds
    return lastRound &+ seconds &* 1_000_000_000
  }

  var unsealedClosedBytes: UInt64 { wals.values.reduce(0) { $0 + ($1.isClosed && !$1.isSealed ? $1.bytes : 0) } }

  func stepRound() throws(KeeperHalt) -> Bool {
    if let current = round {
      guard case .sealing(let after) = current.phase, !tables.state.openWALs.contains(where: { $0 <= after }) else {
        return false
      }
      finishRound(current, after: after)
      return true
    }
    guard isServed, ending == nil, !waiting.isEmpty || context.now >= roundDue else { return false }
    let token = nextToken
    nextToken += 1
    lastRound = context.now
    round = CutRound(phase: .barrier(token: token), requests: waiting)
    waiting = []
    tell(.barrier(token: token))
    return true
  }

  /// Every write before the barrier is durable in files up to `after`.
  func barrierReached(_ token: UInt64, after: UInt64) throws(KeeperHalt) {
    guard var current = round, case .barrier(token) = current.phase else { return }
    current.phase = .sealing(after: after)
    let requests = current.requests
    current.requests = []
    round = current
    for request in requests { try take(request, after: after) }
  }

  private func take(_ request: KeeperRequest, after: UInt64) throws(KeeperHalt) {
    switch request {
    case .cut(let reply): round?.cuts.append(reply)
    case .snapshot(let label, let publish, let reply):
      let id = ULID(clock: context.world.clock, random: context.world.random)
      guard try append([.snapshotTaken(snapshot: id, label: label, after: after)]) else {
        return reply.answer(.failure(ElideError(.tryLater, "the journal's disk is full")))
      }
      if tables.state.openWALs.contains(where: { $0 <= after }) {
        checkpointAfterSeal.insert(after)
      } else {
        wantsCheckpoint = true
      }
      if publish {
        round?.snapshots.append((id, reply))
      } else if let taken = tables.state.snapshots.first(where: { $0.id == id }) {
        reply.answer(.success(snapshotInfo(taken)))
      }
      publishedSnapshots = true
    case .resize(let size, let reply):
      guard try append([.resized(size: size, after: after)]) else {
        return reply.answer(.failure(ElideError(.tryLater, "the journal's disk is full")))
      }
      tell(.resized(size: size))
      reply.answer(.success(size))
    case .finish: break
    }
  }

  /// All of the round is sealed: its point is known, and a page has to reach it.
  private func finishRound(_ done: CutRound, after: UInt64) {
    round = nil
    let asked = !done.cuts.isEmpty || !done.snapshots.isEmpty || publishedSnapshots
    publishedSnapshots = false
    // By itself a round publishes what was written; asked for, also what only the journal says.
    let sealed = tables.state.segments.values.lazy.filter { $0.number <= after }.map(\.sealedSeq).max() ?? 0
    let head = journal.head?.seq ?? 0
    let point = asked || pageLog.last == nil ? head : sealed
    if isCheckpointDue { wantsCheckpoint = true }
    if point > pageLog.cut ?? 0 || pageLog.last == nil { forcedPoint = max(forcedPoint ?? 0, point) }
    awaiting += done.cuts.map { (point, .cut($0)) }
    awaiting += done.snapshots.map { (point, .snapshot($0.id, $0.reply)) }
    answerPublished()
  }

  /// Answers whoever waited for a cut that is now in the store.
  func answerPublished() {
    guard let cut = pageLog.cut else { return }
    if let forced = forcedPoint, forced <= cut { forcedPoint = nil }
    let reached = awaiting.filter { $0.point <= cut }
    awaiting.removeAll { $0.point <= cut }
    for (_, who) in reached {
      switch who {
      case .cut(let reply): reply.answer(.success(cut))
      case .snapshot(let id, let reply):
        if let taken = tables.state.snapshots.first(where: { $0.id == id }) {
          reply.answer(.success(snapshotInfo(taken)))
        } else {
          reply.answer(.failure(ElideError(.notFound, "snapshot \(id) was deleted")))
        }
      }
    }
  }
}
