import ElideIO

/// What gives a volume the right to serve a name: the entry of the name's log that a serving process stands on.
package struct ServiceGrant: Equatable, Sendable {
  package var name: String
  package var volume: ULID
  /// The last entry of the log that was read when the right was found.
  package var seq: UInt64
  package var epoch: UInt64

  package init(name: String, volume: ULID, seq: UInt64, epoch: UInt64) {
    self.name = name
    self.volume = volume
    self.seq = seq
    self.epoch = epoch
  }
}
