import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections
import Foundation

/// The checkpoint that a proof leads to.
struct CheckpointOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("A signed checkpoint; without it this host signs one.", valueName: "file"))
  var checkpoint: String?
}

enum ProofFiles {
  static func read(_ files: any Files, _ path: String, limit: Int) throws -> [UInt8] {
    do throws(Errno) { return try files.readFile(absolute(path), limit: limit) } catch {
      throw ElideError(error, doing: "read \(path)")
    }
  }

  /// A checkpoint from a file; else one of `size` entries, signed with this host's key.
  static func checkpoint(
    _ prover: NameProver, _ place: AuditPlace, file checkpoint: String?, size: UInt64?
  ) throws -> TreeCheckpoint {
    if let checkpoint {
      let bytes = try read(place.world.files, checkpoint, limit: TreeCheckpoint.maxBytes)
      do throws(ProofError) { return try TreeCheckpoint.decode(bytes) } catch {
        throw ElideError(.fault, "\(checkpoint): \(error)")
      }
    }
    guard let key = try KeyFile.read(place.world.files, place.directory.hostKey) else {
      throw ElideError(.notFound, "\(place.directory.hostKey) is not there: no host signs here; give --checkpoint")
    }
    var made = try prover.checkpoint(size)
    made.sign(key)
    return made
  }

  static func write(_ bytes: [UInt8]) { FileHandle.standardOutput.write(Data(bytes)) }
}

extension AuditOptions {
  fileprivate func name(_ place: AuditPlace) throws -> String {
    guard case .name(let name) = place.target else {
      throw ElideError(.usage, "'\(target)' has no name log; proofs are of names")
    }
    return name
  }
}

struct EventsCheckpoint: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checkpoint", abstract: "A signed statement of what a name's log holds, to be kept.",
    discussion: """
      Example:
        elide events checkpoint vm1 > vm1.checkpoint
        elide events verify vm1 --witness vm1.checkpoint

      Verifies the log, and signs its Merkle tree with this host's key, as a note that tools for transparency logs read
      (c2sp.org/tlog-checkpoint). Who keeps it will notice when the log is cut short or rewritten.
      """)
  @OptionGroup var audit: AuditOptions
  @Option(name: .long, help: "Of the first so many entries; of all when left out.") var size: UInt64?
  @Flag(name: .long, help: "Put it into the store too, where 'events verify' finds it.") var publish = false

  func run() throws {
    let place = try audit.place()
    let prover = try NameProver(audit.name(place), store: place.store, kept: place.seen)
    let made = try ProofFiles.checkpoint(prover, place, file: nil, size: size)
    if publish {
      let key = StoreLayout.nameNote(prover.name, made.size - 1)
      do throws(StoreError) { try place.store.occupy(key, made.encode()) } catch { throw ElideError(error) }
      Output.note(key)
    }
    ProofFiles.write(made.encode())
  }
}

struct EventsProve: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "prove", abstract: "A file that proves an entry, or that a log only grew, to whoever has a host's key.",
    discussion: """
      Example:
        elide events prove vm1 --seq 4 > released.tlog-proof
        elide events prove vm1 --from 5 --to 12 > grew.proof
        elide events check-proof released.tlog-proof --host-pub host.pub

      --seq proves an entry (c2sp.org/tlog-proof, the entry's bytes in it). --from and --to are numbers of entries: that the log
      of the second number begins with that of the first.
      """)
  @OptionGroup var audit: AuditOptions
  @OptionGroup var checkpoint: CheckpointOptions
  @Option(name: .long, help: "The entry.") var seq: UInt64?
  @Option(name: .long, help: "Entries of the smaller tree.") var from: UInt64?
  @Option(name: .long, help: "Entries of the larger tree; all when left out.") var to: UInt64?

  func run() throws {
    guard (seq == nil) != (from == nil) else { throw ElideError(.usage, "give --seq, or --from (and --to)") }
    let place = try audit.place()
    let prover = try NameProver(audit.name(place), store: place.store, kept: place.seen)
    let signed = try ProofFiles.checkpoint(prover, place, file: checkpoint.checkpoint, size: to)
    if let seq { ProofFiles.write(try prover.entry(seq, in: signed).encode()) }
    if let from { ProofFiles.write(try prover.beginning(from, of: signed).encode()) }
  }
}

struct EventsCheckProof: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check-proof", abstract: "Check a proof: its hashes, and who signed its checkpoint.",
    discussion: """
      Example:
        elide events check-proof released.tlog-proof --host-pub host.pub

      Keys are the documents that hosts publish (hosts/<id>/host.pub); without --host-pub those in the store are trusted.
      Exit code 4 when it does not hold, or nobody who is trusted has signed it.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption
  @Argument(help: "The proof.") var file: String
  @Option(name: .long, help: ArgumentHelp("A host's published key.", valueName: "file")) var hostPub: [String] = []

  private struct Document: Encodable {
    let file: String
    let holds: Bool
    let origin: String
    let size: UInt64
    let root: String
    let signedBy: [String]
    let seq: UInt64?
    let kind: String?
    let actor: String?
    let at: String?
    let entryHash: String?
    let fromSize: UInt64?
    let sound: Bool
  }

  func run() throws {
    let world = World.host()
    let bytes = try ProofFiles.read(world.files, file, limit: LogProof.maxBytes)
    let proof: LogProof
    do throws(ProofError) { proof = try LogProof.decode(bytes) } catch { throw ElideError(.fault, "\(file): \(error)") }
    let report = ProofReport(proof, keys: try keys(world))
    var from: UInt64?
    if case .beginning(let size, _) = proof.claim { from = size }
    var seq: UInt64?
    if case .entry(_, let index) = proof.claim { seq = index }
    let e = report.entry?.envelope
    let document = Document(
      file: file, holds: proof.holds, origin: proof.checkpoint.origin, size: proof.checkpoint.size,
      root: proof.checkpoint.root.hex, signedBy: report.signedBy, seq: seq, kind: e?.kind, actor: e?.actor, at: e?.at,
      entryHash: report.entry?.hash.hex, fromSize: from, sound: report.isSound)
    if json.json { try Output.json(document) } else { text(document) }
    if !report.isSound { throw ExitCode(4) }
  }

  private func text(_ d: Document) {
    var what = "the first \(d.fromSize ?? 0) entries are the beginning of"
    if let seq = d.seq {
      what = "entry \(seq) (\(d.kind ?? "unreadable"), \(d.at ?? "")) of host \(d.actor?.prefix(8) ?? "") is in"
    }
    print("\(d.origin): \(what) the log of \(d.size) entries" + (d.holds ? "" : ": DOES NOT HOLD"))
    print(d.signedBy.isEmpty ? "signed by NOBODY who is trusted" : "signed by host \(d.signedBy.joined(separator: ", "))")
    print(d.sound ? "sound" : "NOT SOUND")
  }

  private func keys(_ world: World) throws -> [[UInt8]] {
    if hostPub.isEmpty {
      return try HostKeys.published(in: Engine.openStore(options.storeURL, world, create: false))
    }
    return try hostPub.map { path in
      let bytes = try ProofFiles.read(world.files, path, limit: Entry.maxBytes)
      do throws(DocumentError) { return try HostDocument.decode(bytes).key } catch {
        throw ElideError(.fault, "\(path): \(error)")
      }
    }
  }
}
