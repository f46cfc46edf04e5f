import ArgumentParser
import ElideEngine
import ElideEvents
import ElideIO
import ElideProjections

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Print what a file or object of Elide's says.",
    discussion: "Example:\n  elide inspect map /var/lib/elide/volumes/01J…/maps/0000000000000042-…",
    subcommands: [InspectPage.self, InspectWAL.self, InspectMap.self])
}

private func contents(_ path: String) throws -> [UInt8] {
  do throws(Errno) { return try HostFiles().readFile(path) } catch { throw ElideError(error, doing: "read \(path)") }
}

struct InspectPage: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "page", abstract: "A journal page: header, entries, frames.",
    discussion: "Example:\n  elide inspect page /srv/elide/volumes/01J…/journal/00000000")
  @Argument(help: "The file.") var file: String

  func run() throws {
    let bytes = try contents(file)
    let page: JournalPage
    let entries: [[UInt8]]
    do throws(PageError) {
      page = try JournalPage.parse(bytes)
      entries = try page.entries()
    } catch { throw ElideError(.fault, "\(file): \(error)") }
    let h = page.header
    Output.fields([
      ("volume", h.volume.description), ("page", "\(h.page)"), ("hash", page.hash.hex),
      ("previous", h.previous?.hex ?? "none"), ("entries", "\(page.entryCount) from \(h.firstSeq)"), ("cut", "\(h.cut)"),
      ("terminal", h.end.map { "\($0.name) entry \($0.seq)" } ?? "no"),
      ("checkpoints", h.checkpoints.map { "\($0.key) at \($0.seq)" }.joined(separator: ", ")),
      ("tail pages", h.tail.map { "\($0.page)" }.joined(separator: ", ")),
      ("bytes", "\(page.totalLength), head \(page.headLength), fold \(page.foldLength)"),
    ])
    print("")
    var undecodable: [UInt64] = []
    let printer = StepPrinter(json: false, isJoined: false)
    for (i, raw) in entries.enumerated() {
      let seq = h.firstSeq + UInt64(i)
      if let entry = try? EntryCodec.decode(raw, of: h.log, at: seq) {
        try printer.print(Step(entry: .volume(entry, page: h.page), check: .sound))
      } else {
        undecodable.append(seq)
        print("\(seq) (not decodable)")
      }
    }
    print("")
    Output.table(
      ["FRAME", "OFFSET", "STORED", "PLAIN"],
      page.frames.map { [String($0.digest.hex.prefix(16)), "\($0.offset)", "\($0.storedLength)", "\($0.length)"] })
    if let first = undecodable.first {
      throw ElideError(.fault, "\(file): \(undecodable.count) entries do not decode, the first is \(first)")
    }
  }
}

struct InspectWAL: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wal", abstract: "A write-ahead file: frames and records.",
    discussion: "Example:\n  elide inspect wal /var/lib/elide/volumes/01J…/wal/0000000000000007.wal")
  @Argument(help: "The file, in its volume's directory.") var file: String

  func run() throws {
    let path = absolute(file)
    let parts = path.split(separator: "/")
    guard parts.count >= 3, let volume = ULID(parts[parts.count - 3]), let number = UInt64(parts[parts.count - 1].prefix(16))
    else {
      throw ElideError(.usage, "\(path) does not lie in volumes/<ULID>/wal/")
    }
    let files = HostFiles()
    let scan: WALScan
    do throws(WALError) {
      let (id, blocks) = try WALFile.open(files, directory: parentDirectory(path), volume: volume, number: number)
      defer { files.close(id) }
      scan = try WALReader.scan(files, id, volume: volume, wal: number, blocks: blocks)
    } catch { throw ElideError(error) }
    Output.table(
      ["FRAME", "POSITION", "RECORDS", "DURABLE BEFORE", "CRC"],
      scan.frames.map {
        [
          "\($0.number)", "\($0.position)", "\($0.recordCount)", "\($0.durable)",
          hexadecimal(withUnsafeBytes(of: $0.crc.bigEndian) { Array($0) }),
        ]
      })
    print("\(scan.records.count) records, \(scan.blockCRCs.count) blocks; ends at position \(scan.endPosition): \(scan.stop)")
  }
}

struct InspectMap: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map", abstract: "A map checkpoint: size, root, segments.",
    discussion: "Example:\n  elide inspect map /srv/elide/volumes/01J…/maps/0000000000000042-…")
  @Argument(help: "The file.") var file: String

  func run() throws {
    let bytes = try contents(file)
    let c: MapCheckpoint
    do throws(FormatError) { c = try MapCheckpoint.decode(bytes) } catch { throw ElideError(.fault, "\(file): \(error)") }
    Output.fields([
      ("volume", c.volume.description), ("entry", "\(c.seq)"), ("blocks", "\(c.map.blocks)"), ("root", c.root.hex),
      ("segments", "\(c.rows.count)"),
    ])
    print("")
    Output.table(
      ["SEGMENT", "VOLUME", "BLOCKS", "IN USE", "SEALED", "DIED"],
      c.rows.map {
        [
          "\($0.number)", $0.volume.description, "\($0.blocks)", "\($0.count)", "\($0.sealed.seq)",
          $0.death.map { "\($0.seq)" } ?? "-",
        ]
      })
  }
}
