import ElideEngine
import ElideIO

/// The little that the command line asks of an ext4 image itself; everything else is e2fsprogs' business.
enum Ext4Image {
  /// Throws when the file holds no ext2/3/4 file system: its superblock, at byte 1024, has 0xEF53 at offset 56.
  static func check(_ path: String) throws {
    let files = HostFiles()
    let file: FileID
    do throws(Errno) { file = try files.open(path, .read) } catch { throw ElideError(error, doing: "open \(path)") }
    defer { files.close(file) }
    guard let magic = try? files.readBytes(file, at: 1024 + 56, count: 2), magic == [0x53, 0xEF] else {
      throw ElideError(.usage, "\(path) holds no ext4 file system; use raw:\(path) to import it all the same")
    }
  }
}
