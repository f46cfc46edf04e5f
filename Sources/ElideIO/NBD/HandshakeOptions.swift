// The options with a payload, and how replies to them are written.

/// Reads the payload of an option. A nil means that the payload is malformed.
struct OptionReader {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var remaining: Int { bytes.count - position }
  var isAtEnd: Bool { remaining == 0 }

  mutating func integer<T: FixedWidthInteger>(_: T.Type) -> T? {
    guard remaining >= MemoryLayout<T>.size else { return nil }
    defer { position += MemoryLayout<T>.size }
    return bytes.big(T.self, at: position)
  }
  /// A u32 length, then that many bytes of UTF-8, at most as long as the protocol allows.
  mutating func string() -> String? {
    guard let length = integer(UInt32.self) else { return nil }
    return text(Int(length))
  }
  mutating func rest() -> String? { text(remaining) }

  private mutating func text(_ length: Int) -> String? {
    guard length <= NBD.maximumString, length <= remaining else { return nil }
    defer { position += length }
    return String(validating: bytes[position..<position + length], as: UTF8.self)
  }
}

extension Handshake {
  func list(_ payload: inout OptionReader, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]) {
    guard payload.isAtEnd else {
      return output.appendOptionReply(NBD.Option.list, NBD.OptionReply.invalid)
    }
    for name in catalogue.names() {
      output.appendOptionReply(NBD.Option.list, NBD.OptionReply.server) { data in
        data.appendBig(UInt32(name.utf8.count))
        data.append(contentsOf: name.utf8)
      }
    }
    output.appendOptionReply(NBD.Option.list, NBD.OptionReply.ack)
  }

  /// INFO and GO: they answer alike, but GO ends the handshake.
  func describe(
    _ option: UInt32, _ payload: inout OptionReader, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]
  ) -> Outcome {
    guard let name = payload.string(), let count = payload.integer(UInt16.self), payload.remaining == Int(count) * 2 else {
      output.appendOptionReply(option, NBD.OptionReply.invalid)
      return .progress
    }
    var wantsName = false
    var wantsText = false
    while let kind = payload.integer(UInt16.self) {
      wantsName = wantsName || kind == NBD.Info.name
      wantsText = wantsText || kind == NBD.Info.description
    }
    guard let export = resolve(name, catalogue) else {
      output.appendOptionReply(option, NBD.OptionReply.unknown)
      return .progress
    }
    if option == NBD.Option.go && export.isFull {
      output.appendOptionReply(option, NBD.OptionReply.policy)
      return .progress
    }
    appendExport(option, export, &output)
    if wantsName { appendText(option, NBD.Info.name, export.name, &output) }
    if wantsText && !export.text.isEmpty { appendText(option, NBD.Info.description, export.text, &output) }
    output.appendOptionReply(option, NBD.OptionReply.ack)
    return option == NBD.Option.go ? .transmit(agreement(name, export)) : .progress
  }

  private func appendExport(_ option: UInt32, _ export: ExportDescription, _ output: inout [UInt8]) {
    let flags = flags(of: export)
    let maximum = maximumPayload
    output.appendOptionReply(option, NBD.OptionReply.info) { data in
      data.appendBig(NBD.Info.export)
      data.appendBig(export.size)
      data.appendBig(flags)
    }
    // Told unasked: a client that does not know assumes 512 bytes at least.
    output.appendOptionReply(option, NBD.OptionReply.info) { data in
      data.appendBig(NBD.Info.blockSize)
      data.appendBig(UInt32(1))
      data.appendBig(UInt32(4096))
      data.appendBig(maximum)
    }
  }

  private func appendText(_ option: UInt32, _ kind: UInt16, _ text: String, _ output: inout [UInt8]) {
    output.appendOptionReply(option, NBD.OptionReply.info) { data in
      data.appendBig(kind)
      data.append(contentsOf: text.utf8.prefix(NBD.maximumString))
    }
  }

  /// LIST_META_CONTEXT and SET_META_CONTEXT: an export name and queries; answered by the contexts that match.
  mutating func metaContexts(
    _ option: UInt32, _ payload: inout OptionReader, _ catalogue: some ExportCatalogue, _ output: inout [UInt8]
  ) {
    let isSet = option == NBD.Option.setMetaContext
    // A refused SET leaves nothing selected.
    if isSet { contexts = [] }
    guard !isSet || structuredReplies, let name = payload.string(), let count = payload.integer(UInt32.self),
      let selected = queries(count, &payload, isSet: isSet), payload.isAtEnd
    else {
      return output.appendOptionReply(option, NBD.OptionReply.invalid)
    }
    guard resolve(name, catalogue) != nil else {
      return output.appendOptionReply(option, NBD.OptionReply.unknown)
    }
    if isSet {
      contexts = selected
      contextsName = name
    }
    for (context, name) in MetaContexts.known where selected.contains(context) {
      output.appendOptionReply(option, NBD.OptionReply.metaContext) { data in
        // An identifier means something in the answer to SET only.
        data.appendBig(isSet ? context.rawValue : 0)
        data.append(contentsOf: name.utf8)
      }
    }
    output.appendOptionReply(option, NBD.OptionReply.ack)
  }

  /// No queries: all contexts for LIST, none for SET. `base:` alone stands for its whole namespace in LIST only.
  private func queries(_ count: UInt32, _ payload: inout OptionReader, isSet: Bool) -> MetaContexts? {
    var selected: MetaContexts = []
    if count == 0 && !isSet { MetaContexts.known.forEach { selected.insert($0.context) } }
    for _ in 0..<count {
      guard let query = payload.string() else { return nil }
      for (context, name) in MetaContexts.known {
        if query == name || !isSet && query.hasSuffix(":") && name.hasPrefix(query) { selected.insert(context) }
      }
    }
    return selected
  }
}

extension UnsafeRawBufferPointer {
  /// A big-endian integer; the caller has checked that it is there.
  @inline(__always) func big<T: FixedWidthInteger>(_: T.Type, at offset: Int) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}

extension [UInt8] {
  mutating func appendBig(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }

  /// Appends a reply to an option, with the payload that `fill` appends.
  mutating func appendOptionReply(_ option: UInt32, _ type: UInt32, _ fill: (inout [UInt8]) -> Void = { _ in }) {
    appendBig(NBD.optionReplyMagic)
    appendBig(option)
    appendBig(type)
    var payload: [UInt8] = []
    fill(&payload)
    appendBig(UInt32(payload.count))
    append(contentsOf: payload)
  }
}
