import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

// What befalls the bucket. What is taken away is put back before anybody else looks: in between a host that meets it must refuse,
// and change nothing.
extension HostsWorld {
  func trouble(_ host: WorldHost) {
    discover()
    look()
    let full = truth.keys.filter { !(truth[$0]?.state.isFree ?? true) && !frozen.contains($0) }.sorted()
    guard !full.isEmpty else { return }
    let name = random.pick(full)
    switch random.below(9) {
    case 0: poison(name)
    case 1: fromTheFuture(name)
    case 2, 3: rollBack(name, host)
    case 4: removeInTheMiddle(name, host)
    default: takeAway(name, host)
    }
  }

  /// Bytes that are no entry, in the slot that comes next.
  private func poison(_ name: String) {
    guard let fold = truth[name], random.chance(1, in: 3) else { return }
    poisoned.insert("\(name) \(fold.nextSeq)")
    bucket.write(StoreLayout.nameEntry(name, fold.nextSeq), Array("poison".utf8) + [UInt8(truncatingIfNeeded: random.next())])
    look()
    note("poison")
  }

  /// An entry of a kind that this program does not know: who does not know it may not append. Only a name that is free of duty is
  /// spent on it.
  private func fromTheFuture(_ name: String) {
    guard let fold = truth[name], random.chance(1, in: 6), frozen.isEmpty else { return }
    let key = SigningKey(random: SimRandom(seed: random.next()))
    let isIgnorable = random.chance(2, in: 3)
    var e = Envelope(
      log: NameEntryCodec.log(name), seq: fold.nextSeq, prev: fold.head?.hash, id: ULID(high: 9, low: random.next()),
      kind: "note", at: Timestamp.text(milliseconds: hosts[0].clock.wallMilliseconds()),
      actor: Digest.sha256(key.publicKey).hex, incarnation: ULID(high: 9, low: 9))
    e.ignorable = isIgnorable
    guard let raw = try? NameEntryCodec.encode(e, .note(text: "x"), key: key).raw else { return }
    let text = String(decoding: raw, as: UTF8.self).replacing("kind = \"note\"", with: "kind = \"moved\"")
    let body = Array(text.split(separator: "[seal]")[0].utf8)
    let sealed = SealedDocument.seal(body, subject: NameEntryCodec.log(name)) { key.sign($0) }
    bucket.write(StoreLayout.nameEntry(name, fold.nextSeq), sealed)
    if !isIgnorable { frozen.insert(name) }
    look()
    note("kind from the future")
  }

  /// Has a host that knows better look at a log that lacks entries: it refuses, and puts nothing.
  private func refuses(_ name: String, _ host: WorldHost, _ what: String) {
    let before = bucket.keys.filter { $0.hasPrefix("events/\(name)/0") }
    let answer = Result { () throws(ElideError) in try host.lifecycle.perform(.note(name: name, text: "while it is wrong")) }
    let after = bucket.keys.filter { $0.hasPrefix("events/\(name)/0") }
    if before != after { complain("\(what): \(host.letter) appended to \(name)") }
    if case .failure(let error) = answer {
      note("\(what): \(error.kind)")
    } else if case .success(let report) = answer, report.outcome == .committed {
      complain("\(what): \(host.letter) reports success on \(name)")
    }
  }

  private func rollBack(_ name: String, _ host: WorldHost) {
    guard let fold = truth[name], fold.nextSeq > 2, let log = try? host.engine.names.log(name), (try? log.refresh()) != nil,
      log.state.nextSeq == fold.nextSeq, !host.faults.isCrashed,
      // An attempt of its own that is open is put again, byte for byte: then nothing is rolled back any more.
      (try? log.open())?.isEmpty == true
    else { return }
    var kept: [(String, [UInt8])] = []
    for seq in (fold.nextSeq - UInt64(1 + random.below(2)))..<fold.nextSeq {
      let key = StoreLayout.nameEntry(name, seq)
      if let bytes = bucket.objects[key] { kept.append((key, bytes)) }
      bucket.remove(key)
    }
    quietly(host) { refuses(name, host, "rolled back") }
    for (key, bytes) in kept { bucket.write(key, bytes) }
  }

  /// A host that never saw the name reads it, and one that did: neither takes the rest for the log.
  private func removeInTheMiddle(_ name: String, _ host: WorldHost) {
    guard let fold = truth[name], fold.nextSeq > 4 else { return }
    let hole = 1 + random.below(fold.nextSeq - 2)
    let key = StoreLayout.nameEntry(name, hole)
    guard let bytes = bucket.objects[key] else { return }
    bucket.remove(key)
    let copy = bucket.copy()
    if let stranger = try? WorldHost("s", SimHost(seed: random.next(), bucket: copy)) {
      stranger.servant.world = self
      // By the hint it knows all entries, and that they continue each other up to a slot that is there; a hole is no end.
      if let report = try? stranger.lifecycle.perform(.purge(name: name)), report.outcome == .committed,
        copy.objects[key] != nil
      {
        complain("\(name) was purged by one who took a hole for its log's end")
      }
    }
    // Who has read no further than that cannot tell a hole from the end; those who have must not take it for one.
    let known = (try? host.engine.names.known(name))?.nextSeq ?? 0
    if known > hole + 1 {
      quietly(host) {
        let before = bucket.keys.filter { $0.hasPrefix("events/\(name)/0") }
        _ = try? host.lifecycle.perform(.note(name: name, text: "over a hole"))
        let after = bucket.keys.filter { $0.hasPrefix("events/\(name)/0") && !before.contains($0) }
        if let new = after.first, new <= key { complain("\(host.letter) filled the hole \(key) of \(name)") }
      }
    }
    if bucket.objects[key] == nil { bucket.write(key, bytes) }
    note("an entry removed in the middle")
    look()
  }

  /// A public key, a page, a checkpoint or a body is missing or damaged for a while: who builds on it refuses, or does without.
  private func takeAway(_ name: String, _ host: WorldHost) {
    guard let state = truth[name]?.state, let volume = state.volume else { return }
    let parts = bucket.keys.filter {
      $0.hasPrefix("volumes/\(volume)/") || $0.hasPrefix("hosts/") || $0.hasPrefix("names/\(name)")
    }
    guard !parts.isEmpty else { return }
    let key = random.pick(parts)
    guard let bytes = bucket.objects[key] else { return }
    let isMissing = random.chance(1, in: 2)
    if isMissing { bucket.remove(key) } else { bucket.flip(key, byte: random.below(bytes.count)) }
    let damaged = bucket.objects[key]
    commands += 1
    let request = "r\(commands)"
    let command: LifecycleCommand =
      state.phase == .released
      ? .claim(name: name, serve: false)
      : random.chance(1, in: 2)
        ? .create(name: random.pick(names), size: nil, from: name)
        : .forceRelease(name: name, expect: nil, isSelf: false, acceptsLoss: false)
    requests[request] = Request(command: command, host: hosts.firstIndex { $0 === host } ?? 0)
    quietly(host) { run(request) }
    // What was put there anew meanwhile stays.
    if bucket.objects[key] == damaged { bucket.write(key, bytes) } else if bucket.objects[key] != bytes { ruined.insert(volume) }
    note(isMissing ? "an object was missing" : "an object was damaged")
    if case .committed = requests[request]?.told { note("went on without it") }
  }

  /// Without anybody else moving in between.
  private func quietly(_ host: WorldHost, _ body: () -> Void) {
    let pause = host.store.pause
    host.store.pause = {}
    defer { host.store.pause = pause }
    body()
  }
}
