import ElideIO

/// Where a blob lies in the blob files: a row of the journal's database.
package struct BlobPlace: Equatable, Sendable {
  package var file: UInt32
  package var offset: UInt64
  package var length: UInt32

  package init(file: UInt32, offset: UInt64, length: UInt32) {
    self.file = file
    self.offset = offset
    self.length = length
  }

  /// 16 bytes, little-endian.
  package var bytes: [UInt8] {
    var w = ByteWriter(capacity: 16)
    w.u32(file)
    w.u64(offset)
    w.u32(length)
    return w.bytes
  }

  package init(_ bytes: [UInt8]) throws(FormatError) {
    var r = ByteReader(bytes, what: "blob row")
    self.init(file: try r.u32(), offset: try r.u64(), length: try r.u32())
    try r.end()
    guard length <= UInt32(PageLimits.blob), offset <= 1 << 40 else { throw r.error("a blob of \(length) bytes at \(offset)") }
  }
}

/// Append-only files of blobs, `<volume>/blobs/<8 digits>`: bytes without framing. A blob is where its row says; what no
/// row names (the torn end after a crash) is nothing, and is written over.
///
/// Owned by the thread that owns the journal. Nothing here decides what is committed: the rows do.
struct BlobFiles {
  /// A file that is longer is not appended to.
  static let rollBytes: UInt64 = 1 << 30

  private let directory: String
  private let files: any Files
  /// Open files by number; few, since each holds a gigabyte.
  private var open: [UInt32: FileID] = [:]
  /// Where the next blob goes: the end of what is committed.
  private(set) var tail: BlobPlace

  init(directory: String, files: any Files, tail: BlobPlace) {
    self.directory = directory
    self.files = files
    self.tail = tail
  }

  func path(_ number: UInt32) -> String {
    let digits = String(number)
    return directory + "/" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
  }

  /// Writes the blobs behind the tail, one after the other, and makes them durable. The tail moves at `committed` only:
  /// should the transaction not happen, the same place is written again.
  mutating func write(_ blobs: [[UInt8]]) throws(Errno) -> [BlobPlace] {
    if tail.offset >= Self.rollBytes { tail = BlobPlace(file: tail.file + 1, offset: 0, length: 0) }
    let file = try appendable(tail.file)
    var places: [BlobPlace] = []
    places.reserveCapacity(blobs.count)
    var offset = tail.offset
    for blob in blobs {
      try blob.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: offset) }
      places.append(BlobPlace(file: tail.file, offset: offset, length: UInt32(blob.count)))
      offset += UInt64(blob.count)
    }
    try files.sync(file)
    return places
  }

  /// The rows for these places are durable: the next blob goes behind the last.
  mutating func committed(_ places: [BlobPlace]) {
    if let last = places.last { tail = BlobPlace(file: last.file, offset: last.offset + UInt64(last.length), length: 0) }
  }

  /// After a failed write or sync nothing may be assumed of the file: what comes next goes into a new one.
  mutating func abandonFile() { tail = BlobPlace(file: tail.file + 1, offset: 0, length: 0) }

  mutating func read(_ place: BlobPlace) throws(Errno) -> [UInt8] {
    try files.readBytes(try handle(place.file, .read), at: place.offset, count: Int(place.length))
  }

  mutating func close() {
    for number in open.keys.sorted() { if let file = open[number] { files.close(file) } }
    open = [:]
  }

  /// The file to append to. Its name is durable before any row can name a place in it.
  private mutating func appendable(_ number: UInt32) throws(Errno) -> FileID {
    if let file = open[number], writable.contains(number) { return file }
    if let file = open.removeValue(forKey: number) { files.close(file) }
    let file = try files.open(path(number), .create)
    open[number] = file
    writable.insert(number)
    try files.syncDirectory(directory)
    return file
  }

  private var writable: Set<UInt32> = []

  private mutating func handle(_ number: UInt32, _ mode: OpenMode) throws(Errno) -> FileID {
    if let file = open[number] { return file }
    let file = try files.open(path(number), mode)
    open[number] = file
    return file
  }
}
