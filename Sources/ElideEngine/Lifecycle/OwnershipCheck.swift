import ElideEvents
import ElideIO

/// Whether a volume may go on serving its name: asked by the keeper's jobs, never by a thread that serves.
///
/// Each question opens the name's log anew from the host's rows, so that one process's reading serves them all; it costs one
/// request when nothing was appended. For one thread at a time.
package final class OwnershipCheck: Sendable {
  package let grant: ServiceGrant
  private let names: HostNames

  package init(_ names: HostNames, _ grant: ServiceGrant) {
    self.names = names
    self.grant = grant
  }

  /// Blocks for the store.
  package func ask() -> ServiceAnswer {
    do throws(ElideError) { return try names.log(grant.name).serves(grant.volume, from: grant.seq) } catch {
      return .unread(error.message)
    }
  }
}
