import ElideIO

/// Makes and opens write-ahead files. Called by the keeper, off the I/O thread.
package enum WALFile {
  /// Makes write-ahead file `number` in `directory`, which exists: disk space reserved, file header written, file and
  /// directory synced. Only after this returned may `wal_opened` be journaled. A file of that name left by a crash before
  /// its journal entry is replaced.
  ///
  /// With `written` all of it is written with zeros, which costs as many bytes as the file has, and spares every later sync
  /// the file system's journal.
  ///
  /// A crash inside leaves at most a file that no journal entry names.
  /// - Parameter incarnation: of the process that will write it.
  package static func create(
    _ files: any Files, directory: String, volume: ULID, number: UInt64, geometry: WALGeometry, incarnation: ULID,
    written: Bool = false
  ) throws(Errno) -> FileID {
    let path = WALFormat.path(directory: directory, number: number)
    if files.exists(path) { try files.remove(path) }
    let file = try files.open(path, .createNew)
    do {
      try files.allocate(file, size: UInt64(geometry.fileBlocks * WALFormat.block))
      if written { try writeZeros(files, file, blocks: geometry.fileBlocks) }
      try begin(files, file, directory: directory, volume: volume, number: number, geometry: geometry, incarnation: incarnation)
    } catch {
      files.close(file)
      throw error
    }
    return file
  }

  /// Makes write-ahead file `number` of one that has been another's: `file`, which is at its new path, as large as `geometry`
  /// says, and open nowhere else. Its places are written already, which spares every sync the file system's journal. What it
  /// holds stays: no frame in it was written by this process under this number, and others count for nothing.
  ///
  /// When this returned `wal_opened` may be journaled; a crash before leaves a file that no entry names.
  package static func reuse(
    _ files: any Files, _ file: FileID, directory: String, volume: ULID, number: UInt64, geometry: WALGeometry, incarnation: ULID
  ) throws(Errno) {
    try begin(files, file, directory: directory, volume: volume, number: number, geometry: geometry, incarnation: incarnation)
  }

  /// The header, and then all of it durable: a frame may only follow a header that is.
  private static func begin(
    _ files: any Files, _ file: FileID, directory: String, volume: ULID, number: UInt64, geometry: WALGeometry, incarnation: ULID
  ) throws(Errno) {
    let header = WALFileHeader.encode(volume: volume, number: number, fileBlocks: geometry.fileBlocks, incarnation: incarnation)
    try header.withUnsafeBufferPointer { (b) throws(Errno) in try files.write(file, UnsafeRawBufferPointer(b), at: 0) }
    try files.sync(file)
    try files.syncDirectory(directory)
  }

  private static func writeZeros(_ files: any Files, _ file: FileID, blocks: Int) throws(Errno) {
    let piece = 256
    let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: piece * WALFormat.block, alignment: WALFormat.block)
    defer { zeros.deallocate() }
    zeros.initializeMemory(as: UInt8.self, repeating: 0)
    for first in stride(from: 0, to: blocks, by: piece) {
      let count = min(piece, blocks - first) * WALFormat.block
      try files.write(file, UnsafeRawBufferPointer(rebasing: zeros[..<count]), at: UInt64(first * WALFormat.block))
    }
  }

  /// Opens a journaled file and checks that it is the one meant. Returns how many blocks of it may hold frames.
  package static func open(
    _ files: any Files, directory: String, volume: ULID, number: UInt64
  ) throws(WALError) -> (file: FileID, blocks: Int) {
    let path = WALFormat.path(directory: directory, number: number)
    let file: FileID
    do {
      file = try files.open(path, .readWrite)
    } catch {
      if error == .notFound { throw .missing(volume: volume, wal: number) }
      throw .system(volume: volume, wal: number, operation: "open", error: error)
    }
    do {
      return (file, try checkHeader(files, file, volume: volume, number: number))
    } catch {
      files.close(file)
      throw error
    }
  }

  /// Reads and checks position 0 of an open file; how many blocks the file has: what it was made for, or fewer when it
  /// was cut short.
  package static func checkHeader(
    _ files: any Files, _ file: FileID, volume: ULID, number: UInt64
  ) throws(WALError) -> Int {
    let bytes: [UInt8]
    let size: UInt64
    do {
      size = try files.size(file)
      bytes = size < UInt64(WALFormat.block) ? [] : try files.readBytes(file, at: 0, count: WALFormat.block)
    } catch {
      throw .system(volume: volume, wal: number, operation: "read", error: error)
    }
    if bytes.isEmpty { throw .wrongFile(volume: volume, wal: number, detail: "only \(size) bytes long") }
    let checked = bytes.withUnsafeBytes { b -> Result<WALFileHeader, WALHeaderFault> in
      guard let p = b.baseAddress else { return .failure(.init("empty")) }
      return WALFileHeader.check(p, volume: volume, number: number)
    }
    switch checked {
    case .failure(let fault): throw .wrongFile(volume: volume, wal: number, detail: fault.detail)
    case .success(let header): return min(header.blocks, Int(min(size / UInt64(WALFormat.block), 65535)))
    }
  }
}
