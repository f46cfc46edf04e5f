import ElideIO

extension SegmentContent {
  /// More runs than this are refused, written or read.
  package static let maxRuns = 1 << 21
  private static let magic = "elsc"
  private static let version: UInt8 = 1
  /// Four numbers a run, none longer than 6 bytes, and the count.
  private static let maxPlain = 8 + maxRuns * 24

  /// Blocks with an r: the segment's own data.
  package var blocks: UInt64 {
    runs.reduce(0) { if case .data = $1.kind { $0 + $1.count } else { $0 } }
  }

  /// Other segments that the duplicates name, in order, once each.
  package func targets(besides own: UInt64) -> [UInt64] {
    var out: Set<UInt64> = []
    for run in runs { if case .duplicate(let h) = run.kind, h.segment != own { out.insert(h.segment) } }
    return out.sorted()
  }

  /// The content blob: docs/formats/segment.md. A content with a `fault` is the caller's bug and traps.
  package func encode(_ zstd: ZstdCodec? = nil) -> [UInt8] {
    if let fault { preconditionFailure("segment content: \(fault)") }
    var gaps = ByteWriter()
    var heads = ByteWriter()
    var segments = ByteWriter()
    var ordinals = ByteWriter()
    gaps.varint(UInt64(runs.count))
    var at: UInt64 = 0
    var segment: UInt64 = 0
    var next: UInt32 = 0
    for run in runs {
      gaps.varint(run.lba - at)
      at = run.lba + run.count
      heads.varint(run.count << 2 | run.kind.code)
      guard case .duplicate(let target) = run.kind else { continue }
      segments.zigzag(Int64(target.segment) - Int64(segment))
      ordinals.zigzag(Int64(target.r) - Int64(next))
      (segment, next) = (target.segment, target.r + UInt32(run.count))
    }
    var out = ByteWriter()
    ColumnFrame.write(
      magic: Self.magic, version: Self.version, columns: [gaps, heads, segments, ordinals], zstd: zstd, to: &out)
    return out.bytes
  }

  /// Reads a content blob; hostile bytes give an error. What it returns has no `fault`.
  package static func decode(_ bytes: [UInt8], _ zstd: ZstdCodec? = nil) throws(FormatError) -> SegmentContent {
    var outer = ByteReader(bytes, what: "segment content")
    let plain = try ColumnFrame.read(magic: magic, version: version, limit: maxPlain, zstd: zstd, from: &outer)
    try outer.end()
    var reader = ByteReader(plain, what: "segment content")
    // Each run takes at least two bytes.
    let count = try reader.count("number of runs", limit: min(maxRuns, plain.count / 2))
    var runs: [Run] = []
    runs.reserveCapacity(count)
    for _ in 0..<count { runs.append(Run(lba: try reader.varint(), count: 0, kind: .zero)) }
    try readHeads(&runs, &reader)
    try readTargets(&runs, &reader)
    try reader.end()
    let content = SegmentContent(runs: runs)
    if let fault = content.fault { throw reader.error(fault) }
    return content
  }

  /// Turns gaps into LBAs and reads counts and kinds; r of data is implied.
  private static func readHeads(_ runs: inout [Run], _ reader: inout ByteReader) throws(FormatError) {
    var at: UInt64 = 0
    var r: UInt64 = 0
    for i in runs.indices {
      let head = try reader.varint()
      let (lba, count) = (at &+ runs[i].lba, head >> 2)
      guard runs[i].lba <= BlockMap.maxBlocks, lba <= BlockMap.maxBlocks, count <= BlockMap.maxBlocks - lba else {
        throw reader.error("run \(i) lies past block \(BlockMap.maxBlocks)")
      }
      runs[i].lba = lba
      runs[i].count = count
      at = lba + count
      switch head & 3 {
      case 0:
        guard r + count <= 1 << 20 else { throw reader.error("more than \(1 << 20) blocks of data") }
        runs[i].kind = .data(r: UInt32(r))
        r += count
      case 1: runs[i].kind = .zero
      case 2: runs[i].kind = .trim
      default: runs[i].kind = .duplicate(.unwritten)
      }
    }
  }

  private static func readTargets(_ runs: inout [Run], _ reader: inout ByteReader) throws(FormatError) {
    var segments: [Int64] = []
    var segment: Int64 = 0
    for run in runs {
      guard case .duplicate = run.kind else { continue }
      segment &+= try reader.zigzag()
      guard segment >= 0, segment < 1 << 40 else { throw reader.error("no such segment: \(segment)") }
      segments.append(segment)
    }
    var next: Int64 = 0
    var k = 0
    for i in runs.indices {
      guard case .duplicate = runs[i].kind else { continue }
      let r = next &+ (try reader.zigzag())
      guard r >= 0, runs[i].count <= 1 << 20, r <= 1 << 20 - Int64(runs[i].count), r < 1 << 20 else {
        throw reader.error("no such blocks: r \(r)")
      }
      runs[i].kind = .duplicate(BlockHandle(segment: UInt64(segments[k]), r: UInt32(r)))
      next = r + Int64(runs[i].count)
      k += 1
    }
  }

  /// What keeps this from being a content: runs in LBA order, disjoint, not empty, maximal, inside 2^38 blocks; r of data
  /// dense from 0 and below 2^20; targets inside their segments. nil when nothing does.
  package var fault: String? {
    if runs.count > Self.maxRuns { return "\(runs.count) runs" }
    var end: UInt64 = 0
    var r: UInt64 = 0
    for (i, run) in runs.enumerated() {
      guard run.count > 0 else { return "run \(i) is empty" }
      guard run.lba >= end, run.lba < BlockMap.maxBlocks, run.count <= BlockMap.maxBlocks - run.lba else {
        return "run \(i) (block \(run.lba), \(run.count) blocks) is out of order or past the end"
      }
      if i > 0, run.lba == end, runs[i - 1].isContinued(by: run) { return "run \(i) continues the one before" }
      end = run.lba + run.count
      switch run.kind {
      case .data(let first):
        guard UInt64(first) == r, r + run.count <= 1 << 20 else { return "run \(i): r \(first) where \(r) should be" }
        r += run.count
      case .duplicate(let h):
        guard h.isBlock, UInt64(h.r) + run.count <= 1 << 20 else { return "run \(i) names no blocks" }
      case .zero, .trim: break
      }
    }
    return nil
  }
}

extension SegmentContent.Kind {
  var code: UInt64 {
    switch self {
    case .data: 0
    case .zero: 1
    case .trim: 2
    case .duplicate: 3
    }
  }
}

extension SegmentContent.Run {
  /// Whether `next`, which begins where this ends, could have been part of it.
  func isContinued(by next: SegmentContent.Run) -> Bool {
    switch (kind, next.kind) {
    case (.data, .data), (.zero, .zero), (.trim, .trim): true
    case (.duplicate(let a), .duplicate(let b)): b.follows(a, after: count)
    default: false
    }
  }

  /// What the block map says of these blocks once segment `number` is folded.
  func handle(in number: UInt64) -> BlockHandle {
    switch kind {
    case .data(let r): BlockHandle(segment: number, r: r)
    case .zero: .zero
    case .trim: .unwritten
    case .duplicate(let target): target
    }
  }
}
