import Simulator
import Testing

/// The table of situations between hosts, filled by the tests that meet them: `HostsTests`, `HostSituationTests`,
/// `TakeoverTests`, `RescueTests`, `LifecycleCrashTests`, `NameLogSimTests`, `EngineExhaustiveTests`, and tests of names in
/// `Tests/Engine` and `Tests/Replay`.
@Suite struct SituationTests {
  /// Waits for the others, which run beside it.
  @Test func everySituationIsMet() async throws {
    // Of a part of the tests nothing can be said; who chose all those that count says so.
    let isWhole =
      Budget.number("ELIDE_SITUATIONS") != nil
      || !CommandLine.arguments.contains { $0.hasPrefix("--filter") || $0.hasPrefix("--skip=") || $0 == "--skip" }
    let deadline = ContinuousClock.now + .seconds(900)
    while isWhole, !Situation.missing.isEmpty, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(250)) }
    for (situation, count) in Situation.table { print("\(situation.rawValue): \(situation.isNotBuilt ?? "\(count)")") }
    if isWhole { #expect(Situation.missing.isEmpty) }
  }
}
