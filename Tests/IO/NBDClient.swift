import Glibc
import MemoryDevice

@testable import ElideIO

/// A small, blocking NBD client for tests. It checks nothing that a test does not ask for.
final class NBDClient {
  struct Reply: Equatable {
    var cookie: UInt64
    var error: UInt32 = 0
    /// Of a read: the bytes, holes filled in. Of a block status: the payloads one after another.
    var data: [UInt8] = []
    var chunks: [UInt16] = []
  }

  let descriptor: Int32
  var structured = false
  var extended = false
  /// The length of reads in flight by cookie: what follows a simple reply.
  var reads: [UInt64: (offset: UInt64, length: Int)] = [:]
  /// Of requests with extended headers, by cookie: their replies tell it again.
  private var offsets: [UInt64: UInt64] = [:]
  /// From `startTLS` on.
  private(set) var tls: TLSSession?

  /// Connects only. nil when nobody listens.
  init?(path: String) {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0, var address = sockaddr_un(path: path) else { return nil }
    // A test that fails must not hang.
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    if address.withAddress({ connect(descriptor, $0, $1) }) != 0 { return nil }
  }
  deinit { close(descriptor) }

  /// Enters an export.
  convenience init?(
    path: String, export: String, structured: Bool = true, contexts: [String] = [], extended: Bool = false
  ) {
    self.init(path: path)
    self.extended = extended
    var wire = NBDWire.flags()
    if extended { wire.option(NBD.Option.extendedHeaders) } else if structured { wire.option(NBD.Option.structuredReply) }
    if !contexts.isEmpty { wire.option(NBD.Option.setMetaContext, NBDWire.contexts(export, contexts)) }
    wire.option(NBD.Option.go, NBDWire.go(export))
    guard send(wire.bytes), receive(18)?.count == 18 else { return nil }
    self.structured = structured
    var option: UInt32 = 0
    var type: UInt32 = 0
    repeat {
      guard let head = receive(20) else { return nil }
      let length = head.withUnsafeBytes { raw in
        option = raw.big(UInt32.self, at: 8)
        type = raw.big(UInt32.self, at: 12)
        return Int(raw.big(UInt32.self, at: 16))
      }
      guard receive(length) != nil, type < 0x8000_0000 else { return nil }
    } while option != NBD.Option.go || type != NBD.OptionReply.ack
  }

  /// STARTTLS and the handshake; the greeting and the flags have passed. False when the server does not go along.
  func startTLS(_ context: OpaquePointer) -> Bool {
    var wire = NBDWire()
    wire.option(NBD.Option.startTLS)
    guard send(wire.bytes), let answer = receive(20), answer[12...] == [0, 0, 0, 1, 0, 0, 0, 0],
      let session = TLSSession(raw: context, isServer: false, keeping: nil)
    else { return false }
    while true {
      let step = session.shakeHands()
      if !sendPlain(TLSPeer.output(session)) { return false }
      if step == .done { break }
      guard step == .needsInput, pull(session) else { return false }
    }
    tls = session
    return true
  }

  private func pull(_ session: TLSSession) -> Bool {
    var bytes = [UInt8](repeating: 0, count: session.room)
    let n = recv(descriptor, &bytes, bytes.count, 0)
    if n > 0 { TLSPeer.feed(session, Array(bytes[..<n])) }
    return n > 0
  }

  @discardableResult func send(_ bytes: [UInt8]) -> Bool {
    guard let tls else { return sendPlain(bytes) }
    var at = 0
    while at < bytes.count {
      let end = min(at + 10_000, bytes.count)
      guard TLSPeer.send(tls, Array(bytes[at..<end])), sendPlain(TLSPeer.output(tls)) else { return false }
      at = end
    }
    return true
  }

  @discardableResult func sendPlain(_ bytes: [UInt8]) -> Bool {
    var done = 0
    while done < bytes.count {
      let n = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if n <= 0 { return false }
      done += n
    }
    return true
  }

  /// Exactly so many bytes; nil at the end of the stream.
  func receive(_ count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      if let tls {
        var got = 0
        let step = bytes.withUnsafeMutableBytes { tls.receive(UnsafeMutableRawBufferPointer(rebasing: $0[done...]), count: &got) }
        done += got
        if step == .needsInput && !pull(tls) || step != .needsInput && step != .done { return nil }
        continue
      }
      let n = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress.map { $0 + done }, count - done, 0) }
      if n <= 0 { return nil }
      done += n
    }
    return bytes
  }

  /// Takes whatever comes until the server hangs up. False when it does not.
  func drain() -> Bool {
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = recv(descriptor, &bytes, bytes.count, 0)
      if n == 0 { return true }
      if n < 0 { return errno == ECONNRESET }
    }
  }

  func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  @discardableResult func request(
    _ command: UInt16, flags: UInt16 = 0, cookie: UInt64 = 1, offset: UInt64 = 0, length: UInt32 = 0, payload: [UInt8] = []
  ) -> Bool {
    var wire = NBDWire()
    if extended {
      offsets[cookie] = offset
      let flags = command == NBD.Command.write ? flags | NBD.CommandFlag.payloadLength : flags
      wire.extended(command, flags: flags, cookie: cookie, offset: offset, length: UInt64(length), payload: payload)
    } else {
      wire.request(command, flags: flags, cookie: cookie, offset: offset, length: length, payload: payload)
    }
    if command == NBD.Command.read { reads[cookie] = (offset, Int(length)) }
    return send(wire.bytes)
  }

  /// The next whole reply, whatever it belongs to. Chunks of different replies must not be mixed, as this server does not.
  func reply() -> Reply? {
    var reply: Reply?
    while true {
      guard let head = receive(16) else { return nil }
      let (magic, second, cookie) = head.withUnsafeBytes {
        ($0.big(UInt32.self, at: 0), $0.big(UInt32.self, at: 4), $0.big(UInt64.self, at: 8))
      }
      if magic == NBD.simpleReplyMagic {
        let read = reads.removeValue(forKey: cookie)
        if structured && read != nil { return nil }
        guard let data = receive(second == 0 ? read?.length ?? 0 : 0) else { return nil }
        return Reply(cookie: cookie, error: second, data: data)
      }
      guard magic == (extended ? NBD.extendedReplyMagic : NBD.structuredReplyMagic), let size = receive(extended ? 16 : 4)
      else { return nil }
      if extended, size.withUnsafeBytes({ $0.big(UInt64.self, at: 0) }) != offsets[cookie] { return nil }
      // Behind the offset of the request.
      let length = size.withUnsafeBytes { extended ? Int($0.big(UInt64.self, at: 8)) : Int($0.big(UInt32.self, at: 0)) }
      guard let payload = receive(length) else { return nil }
      var whole = reply ?? Reply(cookie: cookie, data: [UInt8](repeating: 0xEE, count: reads[cookie]?.length ?? 0))
      if whole.cookie != cookie { return nil }
      take(UInt16(truncatingIfNeeded: second), payload, &whole)
      if UInt16(second >> 16) & NBD.Chunk.done != 0 {
        reads[cookie] = nil
        return whole
      }
      reply = whole
    }
  }

  private func take(_ type: UInt16, _ payload: [UInt8], _ reply: inout Reply) {
    reply.chunks.append(type)
    payload.withUnsafeBytes { raw in
      let start = reads[reply.cookie]?.offset ?? 0
      switch type {
      case NBD.Chunk.offsetData:
        let at = Int(raw.big(UInt64.self, at: 0) - start)
        reply.data.replaceSubrange(at..<at + payload.count - 8, with: payload[8...])
      case NBD.Chunk.offsetHole:
        let at = Int(raw.big(UInt64.self, at: 0) - start)
        let count = Int(raw.big(UInt32.self, at: 8))
        reply.data.replaceSubrange(at..<at + count, with: repeatElement(0, count: count))
      case NBD.Chunk.error: reply.error = raw.big(UInt32.self, at: 0)
      case NBD.Chunk.blockStatus, NBD.Chunk.extendedBlockStatus: reply.data += payload
      default: break
      }
    }
  }

  /// One request and its reply.
  func call(
    _ command: UInt16, flags: UInt16 = 0, cookie: UInt64 = 1, offset: UInt64 = 0, length: UInt32 = 0, payload: [UInt8] = []
  ) -> Reply? {
    request(command, flags: flags, cookie: cookie, offset: offset, length: length, payload: payload) ? reply() : nil
  }
  func write(_ bytes: [UInt8], at offset: UInt64, flags: UInt16 = 0) -> UInt32? {
    call(NBD.Command.write, flags: flags, offset: offset, length: UInt32(bytes.count), payload: bytes)?.error
  }
  func read(_ length: UInt32, at offset: UInt64) -> [UInt8]? {
    call(NBD.Command.read, offset: offset, length: length)?.data
  }
}

/// A server of memory devices on a Unix socket of its own, for one test.
final class NBDFixture {
  let path: String
  let server: NBDServer
  private let thread: JoinableThread
  private var isStopped = false

  init(
    size: UInt64 = 8 << 20, manner: MemoryDevice.Manner = .immediate, seed: UInt64 = 1, inFile: Bool = false,
    configure: (inout NBDServerConfiguration) -> Void = { _ in },
    prepare: (MemoryDevice) -> Void = { _ in }
  ) throws {
    path = "/tmp/elide-nbd-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).sock"
    var configuration = NBDServerConfiguration()
    configure(&configuration)
    let disk = try MemoryDevice(size: size, manner: manner, seed: seed, inFile: inFile)
    prepare(disk)
    let frozen = try MemoryDevice(size: size / 2, isReadOnly: true, manner: manner)
    server = try NBDServer(
      listening: [.unix(path: path)],
      exports: MemoryExports([("disk", ExportInfo(device: disk)), ("disk@snap", ExportInfo(device: frozen))]),
      configuration: configuration)
    thread = try server.start()
  }

  func client(_ export: String = "disk", structured: Bool = true, contexts: [String] = []) throws -> NBDClient {
    guard let client = NBDClient(path: path, export: export, structured: structured, contexts: contexts) else {
      throw Errno(ECONNREFUSED)
    }
    return client
  }

  /// True when it ended with nothing left over.
  @discardableResult func stop() -> Bool {
    if !isStopped {
      server.stop()
      thread.join()
      isStopped = true
    }
    return server.wasClean && server.statistics.connectionsOpen == 0
  }
  deinit { stop() }
}
