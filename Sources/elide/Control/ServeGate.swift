import ElideEngine
import ElideIO

/// How `serve` takes a target up.
struct ServeGate {
  /// Only what is published is served, whosever it is.
  var isReadOnly: Bool
  var claims: Bool
  /// The names are live here already: their supervisor has seen to it, and sees to their end.
  var isGranted: Bool

  /// Opens what people name. A name is opened for writing when its log says that this host serves it; the grant is what has to be
  /// given back in the end.
  func open(_ source: VolumeSource, _ engine: Engine) throws(ElideError) -> (OpenedVolume, ServiceGrant?) {
    guard source.point == .newest else { return (try engine.open(source), nil) }
    let name: String
    switch source.base {
    case .name(let text): name = text
    case .volume(let volume):
      let found = try engine.find(source.base, fresh: false)
      guard let known = found.name, known.volume == volume, known.owner == engine.host.id, !isReadOnly else {
        // One without a name is nobody else's; of a name's earlier volumes, and of others', what is published.
        return (isReadOnly ? try engine.openPublished(volume, key: found.key) : try engine.open(source), nil)
      }
      name = known.name
    }
    let lifecycle = Lifecycle(engine, servant: ControlServant(engine))
    if isGranted {
      let grant = try lifecycle.grantOfLive(name)
      return (try engine.openLocal(grant.volume, grant: grant), nil)
    }
    switch isReadOnly ? try lifecycle.read(name) : try lifecycle.enter(name, claim: claims) {
    case .write(let grant): return (try engine.openLocal(grant.volume, grant: grant), grant)
    case .read(let volume, let key): return (try engine.openPublished(volume, key: key), nil)
    }
  }
}
