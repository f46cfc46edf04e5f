import ElideEvents
import ElideIO
import ElideProjections

/// Verifies names from a store, or a copy of one, alone: the log, what hosts have signed of it, what it says of other logs, and
/// the page log of every volume that it granted.
///
/// Goes on after a fault where that makes sense. Blocks; changes nothing.
package struct NameAuditor {
  let store: any Store
  /// What the auditor kept himself, of whatever names: heads, checkpoints, this host's rows.
  let kept: [NameWitnessed]

  package init(store: any Store, kept: [NameWitnessed] = []) {
    self.store = store
    self.kept = kept
  }

  /// - Parameters:
  ///   - deep: reads and checks every segment's body and every map checkpoint too.
  ///   - volumes: the page logs of the name's volumes too.
  ///   - bodies: false for a copy that was made without them.
  package func verify(
    _ name: String, deep: Bool = false, volumes: Bool = true, bodies: Bool = true
  ) throws(ElideError) -> NameReport {
    var checkpoints = try Checkpoints(name, store: store)
    var crossings = CrossLogs(name, store: store)
    let history = try NameHistory(name, store: store) { (slot, before, after) throws(ElideError) in
      crossings.note(slot, before: before)
      try checkpoints.compare(after)
    }
    try checkpoints.readRest()
    var witnesses = try StoreWitnesses(store)
    try witnesses.notes(name, store)
    let claims = try (kept + witnesses.claims + StoreWitnesses.hint(name, store)).filter { $0.name == name }
    if history.isEmpty, claims.isEmpty {
      throw ElideError(.notFound, "there is no name '\(name)' in \(store.url)")
    }
    var report = NameReport(name: name)
    report.state = history.fold.state
    report.head = history.fold.head
    report.entries = UInt64(history.slots.count)
    report.seals = UInt64(history.slots.lazy.filter { $0.fault == nil }.count)
    judge(history, claims + checkpoints.claims, &report)
    // Behind the first bad slot the fold is not what it was: what follows from it is not reported.
    if report.faults.isEmpty {
      report.violations = history.slots.compactMap { s in s.violation.map { .init("violation", at: s.key, $0) } }
      try crossings.check(&report)
      report.checkpoints = checkpoints.compared
      report.faults += checkpoints.differing
    }
    report.faults += checkpoints.faults
    hosts(history, witnesses, &report)
    if volumes { try verifyVolumes(history, deep: deep, bodies: bodies, &report) }
    return report
  }

  // MARK: The log

  /// Chain, seals, and what others have seen of it.
  private func judge(_ history: NameHistory, _ claims: [NameWitnessed], _ report: inout NameReport) {
    var links = history.slots.map { slot in
      ChainLink(key: slot.key, hash: slot.hash, previous: slot.entry?.envelope.prev, fault: slot.fault)
    }
    let count = UInt64(links.count)
    // A sealed entry behind a hole proves it; anything else there is a stray object.
    if history.beyond.contains(where: { $0.fault == nil }) || claims.contains(where: { $0.seq >= count }) {
      links.append(ChainLink(key: StoreLayout.nameEntry(history.name, count), hash: nil))
    }
    let roots = roots(history, of: claims)
    for claim in claims {
      report.witnessed += 1
      switch claim.says {
      case .hash(let hash):
        let i = Int(min(claim.seq, count))
        links[i].claims.append(.init(hash: hash, by: claim.by))
        witness(claim, links[i].hash == hash && claim.seq < count, &report)
      case .root(let root):
        let stands = roots[claim.seq] == root
        witness(claim, stands, &report)
        if claim.seq >= count {
          links[Int(count)].claims.append(.init(hash: root, by: claim.by))
        } else if !stands {
          report.add(
            "chain", at: links[Int(claim.seq)].key,
            "\(claim.by) has another tree of \(claim.seq + 1) entries: this one, or one before it, was replaced")
        }
      }
    }
    var faults = ChainJudge.findings(links, keepsForeign: true).map { f in
      VerifyReport.Fault(f.what, at: links[f.index].key, f.detail)
    }
    for stray in history.beyond {
      if let fault = stray.fault { faults.append(.init("entry", at: stray.key, fault)) }
    }
    report.faults = faults + report.faults
  }

  private func witness(_ claim: NameWitnessed, _ stands: Bool, _ report: inout NameReport) {
    if stands, report.witness.map({ claim.seq > $0.seq }) ?? true { report.witness = .init(seq: claim.seq, by: claim.by) }
  }

  /// Roots of the trees that somebody claims to know.
  private func roots(_ history: NameHistory, of claims: [NameWitnessed]) -> [UInt64: Digest] {
    var wanted: Set<UInt64> = []
    for claim in claims { if case .root = claim.says { wanted.insert(claim.seq) } }
    if wanted.isEmpty { return [:] }
    var tree = MerkleFrontier()
    var out: [UInt64: Digest] = [:]
    for slot in history.slots {
      tree.append(slot.raw)
      if wanted.contains(slot.seq) { out[slot.seq] = tree.root }
    }
    return out
  }

  // MARK: Beside the log

  /// Whoever has written here has published his key.
  private func hosts(_ history: NameHistory, _ witnesses: StoreWitnesses, _ report: inout NameReport) {
    report.faults += witnesses.faults
    var asked: Set<String> = []
    for slot in history.slots {
      guard slot.fault == nil, let entry = slot.entry, asked.insert(entry.envelope.actor).inserted else { continue }
      let key = StoreLayout.host(entry.envelope.actor)
      if let published = witnesses.hosts[entry.envelope.actor] {
        if published != entry.key { report.add("host", at: key, "it is not the key that seals entry \(slot.seq)") }
      } else if !witnesses.faults.contains(where: { $0.place == key }) {
        report.add("host", at: key, "the key of a host that wrote entry \(slot.seq) is not there")
      }
    }
  }

  // MARK: Volumes

  private func verifyVolumes(
    _ history: NameHistory, deep: Bool, bodies: Bool, _ report: inout NameReport
  ) throws(ElideError) {
    let episodes = history.episodes
    for episode in episodes {
      let volume = episode.episode.volume
      if episode.isPurged {
        report.notes.append("volume \(volume) was purged; what is left of it is not checked")
        continue
      }
      var check = PageVerifier(store: store, volume: volume, key: episode.episode.key)
      check.isAnchored = true
      check.deep = deep
      check.lacksBodies = !bodies
      check.mayLackBodies = episode.isReaped
      check.mustBeEnded = episode.mustBeEnded
      check.basis = episode.episode.basis
      check.claims = claims(on: volume, history, episodes)
      report.volumes.append(try check.verify())
    }
  }

  /// What the name's entries, and the documents of volumes that continue this one, say of its pages.
  private func claims(on volume: ULID, _ history: NameHistory, _ episodes: [NameEpisode]) -> [PageVerifier.Claim] {
    var out: [PageVerifier.Claim] = []
    for slot in history.slots {
      guard let event = slot.event else { continue }
      for cut in event.cuts where cut.volume == volume {
        out.append(.init(page: cut.page, hash: cut.pageHash, seq: cut.seq, by: slot.key))
      }
    }
    return out
  }
}
