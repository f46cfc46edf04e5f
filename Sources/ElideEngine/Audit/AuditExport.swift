import ElideEvents
import ElideIO
import ElideProjections

/// Copies what an audit of a name needs into another store, which then stands alone: the name's log and what is beside it, the
/// keys and heads of hosts, the logs of other names that it speaks of, the documents and pages of its volumes and of their
/// ancestors; with `bodies` also segments and map checkpoints, so that blocks can be read.
package struct AuditExport {
  let source: any Store
  let target: any Store
  let bodies: Bool

  package init(from source: any Store, to target: any Store, bodies: Bool) {
    self.source = source
    self.target = target
    self.bodies = bodies
  }

  package struct Copied: Equatable, Sendable {
    package var objects: UInt64 = 0
    package var bytes: UInt64 = 0
  }

  package func name(_ name: String) throws(ElideError) -> Copied {
    let history = try NameHistory(name, store: source)
    if history.isEmpty { throw ElideError(.notFound, "there is no name '\(name)' in \(source.url)") }
    var copied = Copied()
    try copy("hosts/", &copied)
    for log in [name] + others(history) {
      try copy("events/\(log)/", &copied)
      try object(StoreLayout.nameHint(log), &copied)
    }
    try volumes(history.episodes.map(\.episode.volume), &copied)
    return copied
  }

  package func volume(_ volume: ULID) throws(ElideError) -> Copied {
    var copied = Copied()
    try copy("hosts/", &copied)
    try volumes([volume], &copied)
    return copied
  }

  /// Names whose logs this one's entries speak of.
  private func others(_ history: NameHistory) -> [String] {
    var names: Set<String> = []
    for slot in history.slots {
      switch slot.event {
      case .forked(_, let from, _): names.insert(from.name)
      case .pinned(_, let by, .fork): names.insert(by)
      case .renameReserved(let old, _): names.insert(old)
      case .renamedTo(let new, _, _): names.insert(new)
      default: break
      }
    }
    return names.subtracting([history.name]).sorted()
  }

  private func volumes(_ first: [ULID], _ copied: inout Copied) throws(ElideError) {
    var waiting = first
    var seen: Set<ULID> = []
    while let volume = waiting.popLast() {
      guard seen.insert(volume).inserted else { continue }
      if let bytes = try source.found(StoreLayout.document(volume)), let d = try? VolumeDocument.decode(bytes),
        let parent = d.lineage?.parent
      {
        waiting.append(parent)
      }
      for part in bodies ? ["segments", "maps", "journal"] : ["journal"] {
        try copy("volumes/\(volume)/\(part)/", &copied)
      }
      try object(StoreLayout.document(volume), &copied)
      try object(StoreLayout.head(volume), &copied)
    }
    try object(StoreLayout.format, &copied)
  }

  private func copy(_ prefix: String, _ copied: inout Copied) throws(ElideError) {
    for found in try source.all(under: prefix) { try object(found.key, &copied) }
  }

  private func object(_ key: String, _ copied: inout Copied) throws(ElideError) {
    guard let bytes = try source.found(key) else { return }
    do throws(StoreError) { try target.put(key, parts: [bytes]) } catch { throw ElideError(error) }
    copied.objects += 1
    copied.bytes += UInt64(bytes.count)
  }
}
