import CElide
import ElideIO
import Glibc

/// What a block device may hold: the reference of the crash oracle.
///
/// Each block has the list of the versions that writes gave it, in the order in which they were submitted. A write takes
/// effect at some moment between its submission (`start`) and its completion (`end`; `UInt64.max` while in flight). After
/// a crash the device must show the state of one moment: version v of a block may be seen at moment T if it had begun by
/// then and no later version of that block had ended. So each block that is read back allows some intervals of moments,
/// and the crash is explained if one moment is allowed by all blocks, and is not before what was promised.
///
/// A value without I/O; the moments are a counter.
package struct DeviceModel {
  private struct Version {
    /// What the block may hold with it: more than one where a write failed that it was merged into, or not.
    var states: [[UInt8]]
    var hashes: [UInt64]
    var start: UInt64
    var end: UInt64
    var operation: Int
    /// What it wrote of the block; nil for all of it.
    var patch: (at: Int, bytes: [UInt8])?
    /// It failed: the next one may have been merged into what was before.
    var failed = false

    init(_ states: [[UInt8]], start: UInt64 = 0, end: UInt64 = 0, operation: Int = -1) {
      self.states = states
      hashes = states.map { DeviceModel.hash($0) }
      (self.start, self.end, self.operation) = (start, end, operation)
    }
  }
  private struct Block {
    var versions: [Version]
    /// Earlier versions were promised to be gone.
    var floor = 0

    init(_ bytes: [UInt8]) { versions = [Version([bytes])] }

    /// What version `i` may have been merged into.
    func states(before i: Int) -> [[UInt8]] {
      var out: [[UInt8]] = []
      for version in versions[..<i].reversed() {
        for state in version.states where !out.contains(state) { out.append(state) }
        if !version.failed { break }
      }
      return out
    }

    /// The states of version `i` and of those that were merged into it, anew.
    mutating func remerge(from i: Int) {
      for j in i..<versions.count {
        guard let patch = versions[j].patch else { return }
        var states: [[UInt8]] = []
        for var state in self.states(before: j) {
          state.replaceSubrange(patch.at..<patch.at + patch.bytes.count, with: patch.bytes)
          if !states.contains(state) { states.append(state) }
        }
        versions[j].states = states
        versions[j].hashes = states.map { DeviceModel.hash($0) }
      }
    }
  }

  package static let blockBytes = 4096
  package private(set) var size: Int
  private var blocks: [Block]
  /// The clock of the model: each submission and each completion is a moment of its own.
  package private(set) var moment: UInt64 = 1
  /// The state must not be one of before.
  package private(set) var floor: UInt64 = 0
  private var operations: [(versions: [(block: Int, index: Int)], start: UInt64)] = []

  /// An empty device of `size` bytes.
  package init(size: Int) {
    self.size = size
    let zero = [UInt8](repeating: 0, count: Self.blockBytes)
    blocks = Array(repeating: Block(zero), count: (size + Self.blockBytes - 1) / Self.blockBytes)
  }

  /// A device that holds this from the beginning: a fork, an import. Whole blocks, the last padded with zeros.
  package init(contents: [[UInt8]], size: Int) {
    self.size = size
    blocks = contents.map { Block($0) }
  }

  /// The device grew; what is new reads as zeros.
  package mutating func grow(to bytes: Int) {
    size = max(size, bytes)
    let zero = [UInt8](repeating: 0, count: Self.blockBytes)
    while blocks.count * Self.blockBytes < size { blocks.append(Block(zero)) }
  }

  package var blockCount: Int { blocks.count }

  package static func hash(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { hash($0) } }
  package static func hash(_ b: UnsafeRawBufferPointer) -> UInt64 {
    let a = elide_crc32c(0, b.baseAddress, b.count)
    return UInt64(elide_crc32c(0x9E37_79B9, b.baseAddress, b.count)) << 32 | UInt64(a)
  }

  // MARK: what the guest does

  /// A write of bytes at an offset was submitted; nil writes zeros. Returns the operation's number.
  package mutating func submitWrite(offset: Int, length: Int, bytes: UnsafeRawBufferPointer?) -> Int {
    moment += 1
    let operation = operations.count
    var touched: [(block: Int, index: Int)] = []
    var done = 0
    while done < length {
      let at = offset + done
      let block = at / Self.blockBytes
      let inside = at % Self.blockBytes
      let n = min(Self.blockBytes - inside, length - done)
      let part = bytes.map { [UInt8]($0[done..<done + n]) } ?? [UInt8](repeating: 0, count: n)
      let index = blocks[block].versions.count
      touched.append((block, index))
      if n == Self.blockBytes {
        blocks[block].versions.append(Version([part], start: moment, end: .max, operation: operation))
      } else {
        var version = Version([], start: moment, end: .max, operation: operation)
        version.patch = (inside, part)
        blocks[block].versions.append(version)
        blocks[block].remerge(from: index)
      }
      done += n
    }
    operations.append((touched, moment))
    return operation
  }

  /// The write was acknowledged. With `durable` (FUA) it will be there after any crash.
  package mutating func acknowledge(_ operation: Int, durable: Bool = false) {
    moment += 1
    for (block, index) in operations[operation].versions {
      blocks[block].versions[index].end = moment
      if durable { blocks[block].floor = max(blocks[block].floor, index) }
    }
    if durable { floor = max(floor, operations[operation].start) }
  }

  /// The write was refused or failed: it may be there, or not, and so may what later writes of a part of a block kept of it.
  package mutating func fail(_ operation: Int) {
    for (block, index) in operations[operation].versions {
      blocks[block].versions[index].failed = true
      blocks[block].remerge(from: index + 1)
    }
  }

  /// A flush is submitted: what is acknowledged now, it will make durable. Give the result to `flushed`.
  package mutating func submitFlush() -> UInt64 {
    moment += 1
    return moment
  }

  /// A flush succeeded that was submitted at `mark`.
  package mutating func flushed(_ mark: UInt64) { promise(until: mark) }

  private mutating func promise(until mark: UInt64) {
    floor = max(floor, mark)
    for b in blocks.indices {
      if let last = blocks[b].versions.lastIndex(where: { $0.end <= mark }) { blocks[b].floor = max(blocks[b].floor, last) }
    }
  }

  // MARK: what is seen

  /// Whether a read of a whole block, submitted at `start` and complete now, may give this. nil, or what is wrong.
  package func faultOfRead(_ block: Int, hash: UInt64, start: UInt64) -> String? {
    let versions = blocks[block].versions
    // Of the versions that had ended before the read began, only the last may be seen, and all that came after it.
    let first = versions.lastIndex { $0.end < start } ?? 0
    if versions[first...].contains(where: { $0.hashes.contains(hash) }) { return nil }
    return "block \(block): \(describe(block, hash))"
  }

  /// The moment now; the start of a read.
  package mutating func tick() -> UInt64 {
    moment += 1
    return moment
  }

  private func describe(_ block: Int, _ hash: UInt64) -> String {
    let versions = blocks[block].versions
    guard let i = versions.lastIndex(where: { $0.hashes.contains(hash) }) else { return "holds what was never written there" }
    let v = versions[i]
    let end = v.end == .max ? "in flight" : "\(v.end)"
    return
      "holds version \(i) of \(versions.count - 1) (operation \(v.operation), \(v.start)...\(end)), at least \(blocks[block].floor) was promised"
  }

  /// What is acknowledged survives, since only the process ended.
  package mutating func keepAcknowledged() { promise(until: moment) }

  /// Whether the device, as read back after a crash, is a state of one moment that holds all that was promised. nil, or
  /// what is wrong with it.
  package func faultAfterCrash(_ found: [UInt64]) -> String? {
    switch explain(found, since: floor, usesFloors: true) {
    case .moment: nil
    case .mixture(let text): text
    }
  }

  /// Whether a copy of the device is a state of one moment not before `since`, however old: what another host sees.
  package func faultOfCopy(_ found: [UInt64], since: UInt64) -> String? {
    switch explain(found, since: since, usesFloors: false) {
    case .moment: nil
    case .mixture(let text): text
    }
  }

  private enum Explanation {
    case moment(UInt64)
    case mixture(String)
  }

  private func explain(_ found: [UInt64], since: UInt64, usesFloors: Bool) -> Explanation {
    precondition(found.count == blocks.count)
    // +1 where a block's interval begins, -1 where it ends; a moment that all blocks allow counts them all.
    var edges: [(at: UInt64, delta: Int)] = []
    for (b, hash) in found.enumerated() {
      let intervals = allowed(b, hash, usesFloors)
      if intervals.isEmpty { return .mixture("block \(b) \(describe(b, hash))") }
      for i in intervals {
        edges.append((max(i.lowerBound, since), 1))
        edges.append((max(i.upperBound, since), -1))
      }
    }
    edges.sort { ($0.at, $0.delta) < ($1.at, $1.delta) }  // ends before beginnings: intervals are half-open
    var depth = 0
    var best = 0
    var bestAt: UInt64 = 0
    for (i, e) in edges.enumerated() {
      depth += e.delta
      if depth >= best {
        best = depth
        // The last moment of several: where a write in flight wrote what had been there before, both may be what is found,
        // and the later one forgets nothing that was.
        bestAt = i + 1 < edges.count ? max(e.at, edges[i + 1].at &- 1) : e.at
      }
    }
    if best == blocks.count { return .moment(bestAt) }
    let odd = found.indices.filter { b in !allowed(b, found[b], usesFloors).contains { $0.contains(bestAt) } }
    let list = odd.prefix(6).map { "block \($0) \(describe($0, found[$0]))" }.joined(separator: "; ")
    return .mixture(
      "a mixture of moments: \(blocks.count - best) blocks do not belong to moment \(bestAt) (promised: \(since)): \(list)")
  }

  /// Moments at which a block may have shown this; disjoint, rising.
  private func allowed(_ b: Int, _ hash: UInt64, _ usesFloors: Bool) -> [Range<UInt64>] {
    let versions = blocks[b].versions
    var out: [Range<UInt64>] = []
    var laterEnd = UInt64.max  // the first end among later versions
    for i in stride(from: versions.count - 1, through: usesFloors ? blocks[b].floor : 0, by: -1) {
      if versions[i].hashes.contains(hash), versions[i].start < laterEnd {
        var range = versions[i].start..<laterEnd
        if let last = out.last, last.lowerBound < range.upperBound {
          range = range.lowerBound..<last.upperBound
          out.removeLast()
        }
        out.append(range)
      }
      laterEnd = min(laterEnd, versions[i].end)
    }
    return out.reversed()
  }

  /// The device came back from a crash like this (`faultAfterCrash` said nil): what it holds is durable, what it does not
  /// hold never happened. The history before stays, for copies of older states.
  package mutating func survive(_ contents: [[UInt8]]) {
    guard case .moment(let at) = explain(contents.map { Self.hash($0) }, since: floor, usesFloors: true) else { return }
    moment += 1
    for b in blocks.indices {
      let hash = Self.hash(contents[b])
      let versions = blocks[b].versions
      // The version that stood at that moment; of several with these bytes the last.
      var laterEnd = UInt64.max
      var kept = 0
      for i in versions.indices.reversed() {
        if versions[i].hashes.contains(hash), versions[i].start <= at, at < laterEnd {
          kept = i
          break
        }
        laterEnd = min(laterEnd, versions[i].end)
      }
      blocks[b].versions.removeSubrange((kept + 1)...)
      for i in blocks[b].versions.indices where blocks[b].versions[i].end == .max { blocks[b].versions[i].end = moment }
      blocks[b].versions[kept].states = [contents[b]]
      blocks[b].versions[kept].hashes = [hash]
      blocks[b].versions[kept].failed = false
      blocks[b].floor = kept
    }
    operations = []
    floor = moment
  }

  /// Drops what no crash can bring back, so that long runs stay small. Only with nothing in flight, after a flush.
  package mutating func forgetBelowFloor() {
    for b in blocks.indices where blocks[b].floor > 0 && blocks[b].floor == blocks[b].versions.count - 1 {
      guard let last = blocks[b].versions.last else { continue }
      var kept = Version(last.states, end: last.end, operation: last.operation)
      kept.failed = last.failed
      blocks[b].versions = [kept]
      blocks[b].floor = 0
    }
  }

  /// The newest bytes of a block, if a read that began at `start` can only have seen them: every write of it had ended.
  package func settled(_ block: Int, before start: UInt64) -> [UInt8]? {
    let versions = blocks[block].versions
    guard let last = versions.last, last.states.count == 1, versions.allSatisfy({ $0.end < start }) else { return nil }
    return last.states.first
  }
}
