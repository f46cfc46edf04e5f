import ElideIO

/// Packs what lies in a page: zstd when that is smaller, as it is otherwise.
enum PageFrameCodec {
  /// digest, codec, length, stored length.
  static let tableEntryBytes = 32 + 1 + 4 + 4
  /// Contents and encodings are packed already where it matters; entries are text.
  private static let level: Int32 = 3

  struct Encoded {
    let digest: Digest
    let codec: PageFrame.Codec
    let length: UInt32
    let stored: [UInt8]
  }

  /// `zstd` nil packs nothing.
  static func encode(_ plain: [UInt8], _ zstd: ZstdCodec?) -> Encoded {
    let packed = zstd?.compressed(plain, level: level)
    return Encoded(
      digest: Digest.sha256(plain), codec: packed == nil ? .raw : .zstd, length: UInt32(plain.count), stored: packed ?? plain)
  }

  /// The plain bytes, exactly `length` of them (which the caller has bounded); nil when the stored bytes do not give
  /// that. What the stored bytes themselves claim to need is not allocated.
  static func decode(_ stored: ArraySlice<UInt8>, _ codec: PageFrame.Codec, length: Int) -> [UInt8]? {
    switch codec {
    case .raw: stored.count == length ? Array(stored) : nil
    case .zstd: ZstdCodec()?.decompressed(stored, size: length)
    }
  }
}
