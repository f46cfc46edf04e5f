import CZstd

/// zstd frames with known plain sizes. One context for each direction, reused; owned by one thread at a time.
package final class ZstdCodec {
  private let compressor: OpaquePointer
  private let decompressor: OpaquePointer

  /// nil when memory is exhausted.
  package init?() {
    guard let c = ZSTD_createCCtx() else { return nil }
    guard let d = ZSTD_createDCtx() else {
      ZSTD_freeCCtx(c)
      return nil
    }
    compressor = c
    decompressor = d
  }
  deinit {
    ZSTD_freeCCtx(compressor)
    ZSTD_freeDCtx(decompressor)
  }

  /// The largest frame that `count` plain bytes can become.
  package static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

  /// Compresses into `output`, which must hold `bound(input.count)` bytes; returns the bytes used, or nil when zstd
  /// reports an error (out of memory).
  package func compress(
    _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer, level: Int32
  ) -> Int? {
    let n = ZSTD_compressCCtx(compressor, output.baseAddress, output.count, input.baseAddress, input.count, level)
    return ZSTD_isError(n) != 0 ? nil : n
  }

  /// Decompresses one frame that must yield exactly `output.count` bytes. What the frame itself claims is never
  /// allocated. False for anything else.
  package func decompress(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Bool {
    ZSTD_decompressDCtx(decompressor, output.baseAddress, output.count, input.baseAddress, input.count) == output.count
  }

  /// A frame of `plain`; nil when it would not be smaller.
  package func compressed(_ plain: [UInt8], level: Int32 = 3) -> [UInt8]? {
    var out = [UInt8](repeating: 0, count: Self.bound(plain.count))
    let n = plain.withUnsafeBytes { p in out.withUnsafeMutableBytes { o in compress(p, into: o, level: level) } }
    guard let n, n < plain.count else { return nil }
    out.removeLast(out.count - n)
    return out
  }

  /// The plain bytes of a frame that the caller knows to hold `size` of them, a size it has bounded.
  package func decompressed(_ frame: ArraySlice<UInt8>, size: Int) -> [UInt8]? {
    var out = [UInt8](repeating: 0, count: size)
    let ok = frame.withUnsafeBytes { f in out.withUnsafeMutableBytes { o in decompress(f, into: o) } }
    return ok ? out : nil
  }
}
