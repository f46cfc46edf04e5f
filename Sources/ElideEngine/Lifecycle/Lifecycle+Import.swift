import ElideEvents
import ElideIO
import ElideProjections

extension Lifecycle {
  /// Makes a read-only name of a disk image: `import_started`, everything into the store, `import_finished`. What ends before is
  /// ended in the log too, and the name is free again.
  func importImage(
    _ name: String, _ source: String, _ context: CommandContext, _ progress: ProgressHandler
  ) throws(ElideError) -> LifecycleReport {
    guard let path = Self.imagePath(source) else {
      throw ElideError(.usage, "'\(source)': the source is raw:FILE or ext4:FILE")
    }
    let files = engine.world.files
    let file: FileID
    do throws(Errno) { file = try files.open(path, .read) } catch { throw ElideError(error, doing: "open \(path)") }
    defer { files.close(file) }
    let title = path.split(separator: "/").last.map(String.init) ?? path
    let log = try names.log(name)
    let any = ULID(clock: engine.world.clock, random: engine.world.random)
    let start = NameCommand.importStart(volume: any, key: [UInt8](repeating: 0, count: 32), source: title)
    let planned = try plan(start, log, context)
    if context.isDryRun { return planned }
    // The handler is used while this call lasts.
    return try withoutActuallyEscaping(progress) { (progress) throws(ElideError) in
      let image = try RawImport(engine, file: file, path: path, progress: progress)
      return try run(image, name, title, log, context)
    }
  }

  private func run(
    _ image: RawImport, _ name: String, _ title: String, _ log: NameLog, _ context: CommandContext
  ) throws(ElideError) -> LifecycleReport {
    // Before the name is taken: the long part in which nothing is made yet.
    let digest = try image.digest()
    let prepared = try engine.prepareVolume(name, .imported)
    let appending = AppendContext(context)
    let begun: NameOutcome
    do throws(ElideError) {
      begun = try log.perform(
        .importStart(volume: prepared.volume, key: prepared.key.publicKey, source: title), context: appending)
    } catch {
      prepared.discard()
      throw error
    }
    switch begun {
    case .committed, .done: break
    case .unknown:
      prepared.leave()
      return try report(begun, log, "")
    default:
      prepared.discard()
      return try report(begun, log, "")
    }
    let cut: Cut
    do throws(ElideError) { cut = try image.run(prepared, source: title, digest: digest) } catch {
      try abort(log, prepared, appending)
      throw error
    }
    // Everything is in the store: from here on a failure leaves the import to be finished, not undone.
    defer { prepared.leave() }
    var done = try log.perform(.importFinish(cut: cut, size: image.size), request: context.request, context: appending)
    if case .refused(let refusal) = done, refusal.instead == .adopt {
      // Another process of this host has adopted the name meanwhile.
      try require(try log.perform(.adopt, context: appending))
      done = try log.perform(.importFinish(cut: cut, size: image.size), request: context.request, context: appending)
    }
    if case .refused(let refusal) = done { throw ElideError(refusal) }
    if case .unknown = done { return try report(done, log, "") }
    try names.end(prepared.making)
    return try report(done, log, "volume \(prepared.volume)")
  }

  /// Says in the log that the import ended, and clears away what it left. While that is not certain everything is kept.
  private func abort(_ log: NameLog, _ prepared: PreparedVolume, _ context: AppendContext) throws(ElideError) {
    switch try? log.perform(.importAbort, context: context) {
    case .committed, .done: prepared.discard()
    default: prepared.leave()
    }
  }

  static func imagePath(_ source: String) -> String? {
    for scheme in ["raw:", "ext4:"] where source.hasPrefix(scheme) {
      let path = String(source.dropFirst(scheme.count))
      return path.isEmpty ? nil : path
    }
    return nil
  }
}
