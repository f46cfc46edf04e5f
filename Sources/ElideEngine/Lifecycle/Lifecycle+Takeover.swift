import ElideEvents
import ElideIO
import ElideProjections

extension Lifecycle {
  /// A new volume that continues what was released.
  func claimNew(_ log: NameLog, serve: Bool, _ context: CommandContext) throws(ElideError) -> NameOutcome {
    throw ElideError(.failed, "'\(log.name)': a claim by another host than the one that released it is not built yet")
  }

  func forceRelease(
    _ name: String, _ expect: String?, isSelf: Bool, acceptsLoss: Bool, _ context: CommandContext
  ) throws(ElideError) -> LifecycleReport {
    throw ElideError(.failed, "'\(name)': a release by force is not built yet")
  }
}
