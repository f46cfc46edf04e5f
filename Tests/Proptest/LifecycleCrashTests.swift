import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Simulator
import Testing

/// Each command of a name is cut at each of its changes, or has each of its calls fail; the next process settles what was left, the
/// same request is sent again, and all is as if nothing had happened: one entry, no half-made volume, nothing lost.
@Suite struct LifecycleCrashTests {
  private static let size: UInt64 = 48 * 4096

  /// A command, what comes before it, and what must hold after it.
  private struct Story: Sendable {
    let name: String
    let kind: String
    let before: @Sendable (SimHost) throws -> Void
    let command: LifecycleCommand
    let phase: NameState.Phase
    /// The name that is looked at afterwards.
    var result = "vm"
  }

  private static func make(_ host: SimHost) throws { _ = try host.process().createVolume(name: "vm", size: size) }

  /// Serves for a moment; what is written is shipped when it ends in good order.
  private static func serve(_ host: SimHost, stops: Bool) throws {
    let engine = try host.process()
    guard case .write(let grant) = try Lifecycle(engine).enter("vm", claim: true) else { throw Wrong("not served") }
    let opened = try engine.openLocal(grant.volume, grant: grant)
    var block = [UInt8](repeating: 9, count: 4096)
    let sink = Sink()
    opened.device.sink = sink
    let answer = block.withUnsafeMutableBytes {
      opened.device.submit(
        BlockRequest(
          operation: .write, forceUnitAccess: true, offset: 8192, length: 4096, buffer: $0.baseAddress, token: 1))
    }
    opened.device.commit()
    if case .queued = answer { try opened.pump { sink.error != nil } }
    guard stops else { return opened.abandon() }
    try opened.close(ship: true)
    try Lifecycle(engine).leave(grant)
  }

  private final class Sink: CompletionSink {
    var error: Int32?
    func complete(token: UInt64, error: Int32) { self.error = error }
  }

  private static let stories: [Story] = [
    Story(
      name: "create", kind: "created", before: { _ in }, command: .create(name: "vm", size: size, from: nil), phase: .stopped),
    Story(
      name: "fork", kind: "forked",
      before: {
        try make($0); try serve($0, stops: true)
      },
      command: .create(name: "child", size: nil, from: "vm"), phase: .stopped, result: "child"),
    Story(
      name: "import", kind: "import_finished",
      before: { try $0.files.replaceFile("/image", with: [UInt8](repeating: 7, count: 20 * 4096)) },
      command: .importImage(name: "vm", source: "raw:/image"), phase: .readonly),
    Story(
      name: "stop", kind: "stopped",
      before: {
        try make($0); try serve($0, stops: false)
      },
      command: .stop(name: "vm", force: false, release: false), phase: .stopped),
    Story(
      name: "release", kind: "released",
      before: {
        try make($0); try serve($0, stops: true)
      }, command: .release(name: "vm"),
      phase: .released),
    Story(
      name: "reclaim", kind: "reclaimed",
      before: {
        try make($0)
        try Lifecycle($0.process()).perform(.release(name: "vm"))
      }, command: .claim(name: "vm", serve: false), phase: .stopped),
    Story(
      name: "resize", kind: "resized",
      before: {
        try make($0); try serve($0, stops: true)
      },
      command: .resize(name: "vm", size: size * 2), phase: .stopped),
    Story(
      name: "rename", kind: "renamed_to", before: { try make($0) }, command: .rename(name: "vm", to: "other"), phase: .stopped,
      result: "other"),
    Story(
      name: "pin", kind: "pinned",
      before: {
        try make($0); try serve($0, stops: true)
      },
      command: .pin(name: "vm", point: "0", until: nil), phase: .stopped),
    Story(
      name: "purge", kind: "purged",
      before: {
        try make($0); try serve($0, stops: true)
      }, command: .purge(name: "vm"),
      phase: .purged),
  ]

  /// Sends the story's request in a new process, once what was left is settled, until it is answered.
  private static func again(_ story: Story, _ host: SimHost) throws {
    let engine = try host.process()
    try Lifecycle(engine).settleAll()
    for _ in 0..<4 {
      do {
        let report = try Lifecycle(engine).perform(story.command, CommandContext(request: "r"))
        if report.outcome != .unknown { return }
      } catch {
        guard (error as? ElideError)?.kind == .tryLater else { throw error }
      }
    }
    throw Wrong("no answer")
  }

  private static func check(_ story: Story, _ host: SimHost, _ bucket: SimBucket) throws {
    let engine = try host.process()
    let log = try engine.names.log(story.result)
    try log.refresh()
    if log.state.phase != story.phase { throw Wrong("it is \(log.state.phase), not \(story.phase)") }
    if !(try engine.names.makings().isEmpty) { throw Wrong("a volume is still being made") }
    if !(try engine.names.openAttempts().isEmpty) { throw Wrong("an attempt is open") }
    var kinds = 0
    var names: [NameState] = []
    for name in ["vm", "child", "other"] {
      let one = try engine.names.log(name)
      try one.refresh()
      names.append(one.state)
      if one.state.violationCount > 0 { throw Wrong("\(one.state.violations)") }
      for seq in 0..<one.state.nextSeq {
        guard let raw = try one.slot(seq), let entry = try? NameEntryCodec.decode(raw, of: name, at: seq) else { continue }
        if entry.envelope.kind == story.kind { kinds += 1 }
      }
    }
    if kinds != 1 { throw Wrong("\(kinds) entries '\(story.kind)'") }
    // What is on disk is of a name, whole, and opens.
    let granted = Set(names.flatMap { $0.holdings.episodes.map(\.volume) })
    for entry in (try? host.files.list("/data/volumes")) ?? [] {
      guard let volume = ULID(entry) else { continue }
      let hasKey = host.files.exists(engine.directory.volume(volume).key)
      if !granted.contains(volume), hasKey { throw Wrong("volume \(volume) is of no name") }
    }
    guard let volume = log.state.volume else { return }
    let copy = try engine.openPublished(volume, key: engine.find(.name(story.result), fresh: true).key)
    if copy.device.size != log.state.size { throw Wrong("\(copy.device.size) bytes, the log says \(log.state.size)") }
  }

  /// Every ninth change, each phase others; 1 (`ELIDE_STRIDE`) is all of them.
  private static let stride = UInt64(Budget.number("ELIDE_STRIDE") ?? 9)

  @Test(arguments: zip(CrashPhase.allCases, [1, 4, 7] as [UInt64]))
  func eachCommandIsCutAtEachChange(_ phase: CrashPhase, _ first: UInt64) throws {
    for story in Self.stories {
      var n = min(first, Self.stride)
      while true {
        let bucket = SimBucket()
        let host = SimHost(seed: n, bucket: bucket)
        do {
          try story.before(host)
          host.faults.armCrash(after: n, phase)
          let report = try? Lifecycle(host.process()).perform(story.command, CommandContext(request: "r"))
          let reached = host.faults.isCrashed
          if !reached, report == nil { throw Wrong("it is refused without a crash") }
          host.crash(n % 2 == 0 ? .powerLoss : .processKill)
          try Self.again(story, host)
          try Self.check(story, host, bucket)
          if !reached { break }
        } catch {
          Issue.record("\(story.name), change \(n) cut \(phase): \(error)")
          break
        }
        n += Self.stride
      }
      // Short commands may have no seventh change.
      if first == 1 { #expect(n > first, "\(story.name): \(n) changes") }
    }
    if phase == .before { Situation.met(.crashBeforeCommit, times: Self.stories.count) }
    if phase == .after { Situation.met(.crashAfterCommit, .renameCut, .importCut, times: Self.stories.count) }
  }

  /// The process lives on, and one call of it fails: of the disk, of the rows, of the store.
  @Test func eachCallOfACommandFailsOnce() throws {
    for story in Self.stories {
      var n: UInt64 = 1
      while true {
        let bucket = SimBucket()
        let host = SimHost(seed: n, bucket: bucket)
        do {
          try story.before(host)
          let before = host.faults.report.reduce(0) { $0 + $1.tally.failed }
          host.faults.armFailure(after: n, .io)
          _ = try? Lifecycle(host.process()).perform(story.command, CommandContext(request: "r"))
          let reached = host.faults.report.reduce(0) { $0 + $1.tally.failed } > before
          host.faults.disarm()
          try Self.again(story, host)
          // A new size is in the volume's journal and in the name's log; with its page it may wait for the next stop or release.
          if case .resize = story.command {
            let engine = try host.process()
            try engine.publishClosed(engine.volume(.name(story.result)))
          }
          try Self.check(story, host, bucket)
          if !reached { break }
        } catch {
          Issue.record("\(story.name), call \(n) fails: \(error)")
          break
        }
        n += 1
      }
      #expect(n > 1, "\(story.name): \(n) calls")
    }
  }
}
