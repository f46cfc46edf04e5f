import ElideEvents
import ElideIO

// <data>/
//   host.key               hexadecimal of the host's Ed25519 secret, one line (0600)
//   host.toml              its public half, sealed by itself: the same bytes as hosts/<id>/host.pub in the store
//   names/                 LMDB: name → ULID and flags
//   volumes/<vol>/key      hexadecimal of the volume's Ed25519 secret; absent: the volume belongs to another host
//   volumes/<vol>/lock     flock: held by the process that serves the volume
//   volumes/<vol>/journal/ LMDB
//   volumes/<vol>/blobs/   the journal's blobs
//   volumes/<vol>/wal/     write-ahead files
//   volumes/<vol>/maps/    map checkpoints
//   cache/<vol>/           blocks of segments, disposable
//   reserve                holds nothing but space, see `SpaceReserve`
//   run/                   sockets

/// The paths of a data directory. A value: it touches nothing by itself.
package struct DataDirectory: Equatable, Sendable {
  package let root: String
  package init(root: String) { self.root = root }

  package var hostKey: String { root + "/host.key" }
  package var hostDocument: String { root + "/host.toml" }
  package var names: String { root + "/names" }
  package var cache: String { root + "/cache" }
  package var reserve: String { root + "/reserve" }
  package var run: String { root + "/run" }
  package var volumes: String { root + "/volumes" }
  package func volume(_ volume: ULID) -> VolumeDirectory { VolumeDirectory(root: "\(volumes)/\(volume)") }
  /// The control socket of the process that serves a volume.
  package func control(_ volume: ULID) -> String { "\(run)/\(volume).ctl" }
  /// Where a coordinator's process serves a volume by NBD.
  package func socket(_ volume: ULID) -> String { "\(run)/\(volume).sock" }
  /// The coordinator's socket, and the lock that it holds as long as it runs.
  package var coordinatorSocket: String { run + "/control.sock" }
  package var coordinatorLock: String { run + "/coordinator.lock" }
}

/// The paths of one volume's directory.
package struct VolumeDirectory: Equatable, Sendable {
  package let root: String
  package var key: String { root + "/key" }
  package var lock: String { root + "/lock" }
  package var journal: String { root + "/journal" }
  package var blobs: String { root + "/blobs" }
  package var wal: String { root + "/wal" }
  package var maps: String { root + "/maps" }

  package init(root: String) { self.root = root }

  /// Makes the directories, durably.
  package func make(_ files: any Files) throws(Errno) {
    for directory in [root, journal, blobs, wal, maps] { try files.makeDirectory(directory) }
    try files.syncDirectory(root)
    try files.syncDirectory(parentDirectory(root))
    try files.syncDirectory(parentDirectory(parentDirectory(root)))
  }
}

extension Files {
  /// Makes a directory and those above it that are missing, so that their names survive a power cut: what is synced inside
  /// is lost with them otherwise. When it is there its name is synced all the same: whoever made it may not have.
  package func makeDurableDirectory(_ path: String) throws(Errno) {
    var unsynced = [parentDirectory(path)]
    while let last = unsynced.last, !exists(last), parentDirectory(last) != last { unsynced.append(parentDirectory(last)) }
    try makeDirectory(path)
    for parent in unsynced { try syncDirectory(parent) }
  }

  /// Removes a file or a directory with all that is in it; success when absent. Not durable until the parent is synced.
  package func removeTree(_ path: String) {
    if let names = try? list(path) { for name in names { removeTree(path + "/" + name) } }
    try? remove(path)
  }
}

/// Secrets on disk: one line of hexadecimal in a file that only its owner reads.
package enum KeyFile {
  /// nil when there is none.
  package static func read(_ files: any Files, _ path: String) throws(ElideError) -> SigningKey? {
    let bytes: [UInt8]
    do { bytes = try files.readFile(path, limit: 4096) } catch {
      if error == .notFound { return nil }
      throw ElideError(error, doing: "read the key \(path)")
    }
    let text = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first ?? ""
    guard let secret = decodeHexadecimal(text), let key = SigningKey(secret: secret) else {
      throw ElideError(.fault, "\(path) is not a key: 64 hexadecimal digits are expected")
    }
    return key
  }

  /// The key in `path`, made if there is none. Of processes that race, one makes it and the others read it.
  package static func readOrMake(_ world: World, _ path: String) throws(ElideError) -> SigningKey {
    if let key = try read(world.files, path) { return key }
    let temporary = "\(path).\(ULID(clock: world.clock, random: world.random))"
    do throws(Errno) {
      let text = Array((hexadecimal(SigningKey(random: world.random).secret) + "\n").utf8)
      let file = try world.files.open(temporary, .createNew)
      defer { try? world.files.remove(temporary) }
      do {
        defer { world.files.close(file) }
        try text.withUnsafeBufferPointer { (b) throws(Errno) in
          try world.files.write(file, UnsafeRawBufferPointer(b), at: 0)
        }
        try world.files.sync(file)
      }
      do throws(Errno) { try world.files.link(temporary, to: path) } catch {
        guard error == .exists else { throw error }
      }
      try world.files.syncDirectory(parentDirectory(path))
    } catch {
      throw ElideError(error, doing: "make the key \(path)")
    }
    guard let key = try read(world.files, path) else { throw ElideError(.failed, "the key \(path) vanished") }
    return key
  }
}

/// Who this host is.
package struct HostIdentity: Sendable {
  package let key: SigningKey
  /// Hexadecimal of the SHA-256 of the public key: `actor` in entries.
  package let id: String
  /// `host.toml`, to be published.
  package let document: [UInt8]

  /// Reads the identity of a data directory; makes the directory and the identity on first use.
  package init(_ world: World, _ directory: DataDirectory) throws(ElideError) {
    do throws(Errno) {
      try world.files.makeDurableDirectory(directory.root)
      for path in [directory.volumes, directory.cache, directory.run] { try world.files.makeDirectory(path) }
      try world.files.syncDirectory(directory.root)
    } catch { throw ElideError(error, doing: "make the data directory \(directory.root)") }
    key = try KeyFile.readOrMake(world, directory.hostKey)
    id = Digest.sha256(key.publicKey).hex
    document = try Self.readOrMakeDocument(world, directory.hostDocument, key)
  }

  private static func readOrMakeDocument(_ world: World, _ path: String, _ key: SigningKey) throws(ElideError) -> [UInt8] {
    if let bytes = try? world.files.readFile(path, limit: Entry.maxBytes) {
      let host: HostDocument
      do { host = try HostDocument.decode(bytes) } catch { throw ElideError(.fault, "\(path): \(error)") }
      guard host.key == key.publicKey else { throw ElideError(.fault, "\(path) is of another key than host.key") }
      return bytes
    }
    let created = Timestamp.text(milliseconds: world.clock.wallMilliseconds())
    let bytes = HostDocument(key: key.publicKey, created: created).encode { key.sign($0) }
    do { try world.files.replaceFile(path, with: bytes) } catch { throw ElideError(error, doing: "write \(path)") }
    return bytes
  }
}
