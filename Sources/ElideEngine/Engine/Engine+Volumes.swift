import ElideEvents
import ElideIO
import ElideProjections

/// A volume as `list` shows it.
package struct VolumeSummary: Equatable, Sendable {
  /// nil for a volume that has no local name.
  package var name: String?
  package var volume: ULID
  /// Bytes.
  package var size: UInt64
  /// Made by import.
  package var isImage: Bool
  /// Its key is here: it can be written. Otherwise it can be read at its newest published cut.
  package var isWritable: Bool
  /// The volume it was forked from, and where.
  package var parent: (volume: ULID, seq: UInt64)?
  /// Wall clock of its making, milliseconds since 1970.
  package var created: UInt64

  package init(
    name: String?, volume: ULID, size: UInt64, isImage: Bool = false, isWritable: Bool = true,
    parent: (volume: ULID, seq: UInt64)? = nil, created: UInt64 = 0
  ) {
    self.name = name
    self.volume = volume
    self.size = size
    self.isImage = isImage
    self.isWritable = isWritable
    self.parent = parent
    self.created = created
  }

  package static func == (a: VolumeSummary, b: VolumeSummary) -> Bool {
    a.volume == b.volume && a.name == b.name && a.size == b.size && a.isImage == b.isImage && a.isWritable == b.isWritable
      && a.parent?.volume == b.parent?.volume && a.parent?.seq == b.parent?.seq && a.created == b.created
  }
}

/// How far long work is. Called from the thread that called the engine, a few times a second at most.
package struct Progress: Equatable, Sendable {
  package enum Step: String, Sendable { case digest, seal, upload, publish, verify, copy }
  package var step: Step
  /// Bytes, of `total` (0: not known).
  package var done: UInt64
  package var total: UInt64
  package init(step: Step, done: UInt64, total: UInt64) {
    self.step = step
    self.done = done
    self.total = total
  }
}

/// Reports progress; false asks to stop, and the work ends with `.interrupted`, leaving nothing half-made behind.
package typealias ProgressHandler = (Progress) -> Bool
