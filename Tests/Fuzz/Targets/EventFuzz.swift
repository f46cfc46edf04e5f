import ElideEvents
import ElideIO

/// Entries, documents and pages.
enum EventFuzz {
  /// What was understood can be written, and is understood again.
  static func entry(_ bytes: [UInt8]) {
    guard let entry = try? EntryCodec.decode(bytes) else { return }
    precondition(bytes.count <= Entry.maxBytes, "an entry beyond its bound")
    guard let event = entry.event else { return }
    guard let raw = try? EntryCodec.encode(entry.envelope, event) else { return }
    guard let again = try? EntryCodec.decode(raw) else { preconditionFailure("what was written is not read") }
    precondition(again.envelope == entry.envelope && again.event == event, "what was written reads as something else")
  }

  /// Input: which document, then its bytes.
  static func document(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    let which = input.byte()
    let text = input.rest()
    switch which % 4 {
    case 0: _ = try? HeadHint.decode(text)
    case 1: _ = try? VolumeDocument.decode(text)
    case 2: _ = try? HostDocument.decode(text)
    default: _ = try? StoreDocument.decode(text)
    }
    _ = SealedDocument.split(text)
  }

  static var documents: [[UInt8]] {
    let volume = ULID(high: 0x019B_0000_0000_0001, low: 0x1122_3344_5566_7788)
    let key = [UInt8](0..<32)
    let created = "2026-01-31T12:00:00.000Z"
    guard let signer = SigningKey(secret: [UInt8](repeating: 7, count: 32)) else { return [] }
    return [
      [0] + HeadHint(volume: volume, page: 17, length: 9000, checkpoint: "volumes/x/maps/1-2", checkpointLength: 700).encode(),
      [1]
        + VolumeDocument(volume: volume, size: 1 << 30, key: signer.publicKey, created: created).encode(sign: signer.sign),
      [2] + HostDocument(key: signer.publicKey, created: created).encode(sign: signer.sign),
      [3] + StoreDocument(store: volume, created: created).encode(),
      [0] + key,
    ]
  }

  /// Head, signature, entries, blobs: also with the digests made to fit, so that what lies behind them is reached.
  static func page(_ bytes: [UInt8]) {
    look(bytes)
    guard let page = try? JournalPage.parse(bytes) else { return }
    precondition(page.headLength <= bytes.count && page.totalLength <= PageLimits.bytes, "a page beyond its bound")
    // The digest of each frame stands in a row of 41 bytes, before the signature of 64.
    var mended = bytes
    let table = page.headLength - 64 - 41 * page.frames.count
    for (i, frame) in page.frames.enumerated() where frame.codec == .raw && frame.range.upperBound <= UInt64(bytes.count) {
      let stored = bytes[Int(frame.offset)..<Int(frame.range.upperBound)]
      let digest = stored.withUnsafeBytes { Digest.sha256($0) }
      mended.replaceSubrange(table + 41 * i..<table + 41 * i + 32, with: digest.bytes)
    }
    look(mended)
  }

  private static func look(_ bytes: [UInt8]) {
    do throws(PageError) {
      let page = try JournalPage.parse(bytes)
      try? page.verify(key: [UInt8](repeating: 3, count: 32))
      for raw in try page.entries() { _ = try? EntryCodec.decode(raw, of: nil, at: page.header.firstSeq) }
      for frame in page.frames {
        precondition(page.frame(frame.digest) == frame, "a frame is not found by its digest")
        _ = try? page.blob(frame.digest, in: bytes)
      }
    } catch .short(let need) {
      precondition(need > bytes.count && need <= PageLimits.bytes, "\(need) bytes are wanted of a page")
    } catch {}
  }
}
