import ElideEvents
import ElideIO

/// What an auditor kept of names, in a file: a document of heads as hosts publish them, a signed checkpoint, or lines of
/// `NAME SEQ SHA256`.
package enum WitnessFile {
  package static func read(_ files: any Files, _ path: String) throws(ElideError) -> [NameWitnessed] {
    let bytes: [UInt8]
    do throws(Errno) { bytes = try files.readFile(path, limit: 32 << 20) } catch {
      throw ElideError(error, doing: "read \(path)")
    }
    if let heads = try? HostHeads.decode(bytes) {
      return heads.heads.map { NameWitnessed(name: $0.name, seq: $0.head.seq, says: .hash($0.head.hash), by: path) }
    }
    if let note = try? TreeCheckpoint.decode(bytes), note.size > 0 {
      return [NameWitnessed(name: note.logName, seq: note.size - 1, says: .root(note.root), by: path)]
    }
    return try lines(bytes, path)
  }

  private static func lines(_ bytes: [UInt8], _ path: String) throws(ElideError) -> [NameWitnessed] {
    var out: [NameWitnessed] = []
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where !line.hasPrefix("#") {
      let words = line.split(separator: " ")
      guard words.count == 3, VolumeName.fault(String(words[0])) == nil, let seq = UInt64(words[1]),
        let hash = Digest(hex: String(words[2]))
      else { throw ElideError(.usage, "\(path) is no document of heads, no checkpoint, and has no lines 'NAME SEQ SHA256'") }
      out.append(NameWitnessed(name: String(words[0]), seq: seq, says: .hash(hash), by: path))
    }
    return out
  }
}
