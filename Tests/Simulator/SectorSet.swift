/// Which 512-byte sectors of a file: a bitmap that grows, with bounds so that a scan skips what was never touched.
struct SectorSet {
  private var words: [UInt64] = []
  private(set) var first = Int.max  // word indexes
  private(set) var last = -1

  var isEmpty: Bool { last < first }

  func contains(_ s: Int) -> Bool {
    let w = s >> 6
    return w < words.count && words[w] & (1 << UInt64(s & 63)) != 0
  }
  mutating func insert(_ s: Int) {
    let w = s >> 6
    if w >= words.count { words.append(contentsOf: repeatElement(0, count: max(64, w + 1 - words.count))) }
    words[w] |= 1 << UInt64(s & 63)
    first = min(first, w)
    last = max(last, w)
  }
  mutating func remove(_ s: Int) {
    let w = s >> 6
    if w < words.count { words[w] &= ~(1 << UInt64(s & 63)) }
  }
  mutating func removeAll() {
    if isEmpty { return }
    for w in first...last { words[w] = 0 }
    first = .max
    last = -1
  }
  /// The members in rising order.
  var members: [Int] {
    if isEmpty { return [] }
    var out: [Int] = []
    for w in first...last {
      var bits = words[w]
      while bits != 0 {
        out.append(w << 6 + bits.trailingZeroBitCount)
        bits &= bits - 1
      }
    }
    return out
  }
}
