import Testing

@testable import ElideIO

/// What a transmission said to a stream of bytes; payloads are gathered whole.
struct TransmissionRun: Equatable {
  var actions: [Transmission.Action] = []
  var payloads: [[UInt8]] = []

  init(_ bytes: [UInt8], _ transmission: Transmission, chunk: () -> Int = { Int.max }) {
    var transmission = transmission
    var buffered: [UInt8] = []
    var next = 0
    while next < bytes.count && !isOver {
      let end = next + min(max(1, chunk()), bytes.count - next)
      buffered += bytes[next..<end]
      next = end
      drive(&transmission, &buffered)
    }
  }

  private var isOver: Bool {
    switch actions.last {
    case .disconnect, .close: true
    default: false
    }
  }

  private mutating func drive(_ transmission: inout Transmission, _ buffered: inout [UInt8]) {
    while !isOver {
      if transmission.isTakingPayload {
        let n = min(buffered.count, Int(transmission.payloadLeft))
        if n == 0 { return }
        payloads[payloads.count - 1] += buffered[..<n]
        buffered.removeFirst(n)
        transmission.took(n)
        continue
      }
      let (consumed, action) = buffered.withUnsafeBytes { transmission.step($0) }
      buffered.removeFirst(consumed)
      if action == .needsInput { return }
      if case .write = action { payloads.append([]) }
      actions.append(action)
    }
  }
}

@Suite struct NBDTransmissionTests {
  private func machine(readOnly: Bool = false, structured: Bool = true, maximum: UInt32 = NBD.maximumPayload) -> Transmission {
    Transmission(
      size: 1 << 20, isReadOnly: readOnly, structuredReplies: structured, contexts: structured ? [.allocation] : [],
      maximumPayload: maximum)
  }

  /// The error that one request gets; 0 for none, nil when the connection is closed.
  private func verdict(
    _ command: UInt16, flags: UInt16 = 0, offset: UInt64 = 0, length: UInt32 = 0, payload: Int = 0, _ machine: Transmission
  ) -> UInt32? {
    var wire = NBDWire()
    wire.request(
      command, flags: flags, cookie: 77, offset: offset, length: length, payload: [UInt8](repeating: 1, count: payload))
    wire.request(NBD.Command.flush, cookie: 78)
    let run = TransmissionRun(wire.bytes, machine)
    // Whatever was wrong with the first, the second one is understood.
    if case .close = run.actions.last { return nil }
    switch run.actions.last {
    case .request(let request), .refuse(let request, NBD.Failure.shutdown): #expect(request.cookie == 78)
    default: Issue.record("the request after this one was lost: \(run.actions)")
    }
    if case .refuse(let request, let error) = run.actions[0] {
      #expect(request.cookie == 77)
      return error
    }
    return 0
  }

  @Test func soundRequests() {
    let m = machine()
    #expect(verdict(NBD.Command.read, offset: 1 << 19, length: 1 << 19, m) == 0)
    #expect(verdict(NBD.Command.read, flags: 4, offset: 1, length: 1, m) == 0)
    #expect(verdict(NBD.Command.write, flags: 1, offset: (1 << 20) - 3, length: 3, payload: 3, m) == 0)
    #expect(verdict(NBD.Command.writeZeroes, flags: 0x13, length: 1 << 20, m) == 0)
    #expect(verdict(NBD.Command.trim, flags: 1, length: 1 << 20, m) == 0)
    #expect(verdict(NBD.Command.cache, length: 1 << 20, m) == 0)
    #expect(verdict(NBD.Command.blockStatus, flags: 8, length: 1 << 20, m) == 0)
    #expect(verdict(NBD.Command.flush, flags: 1, m) == 0)
  }

  @Test func lengthZeroIsFine() {
    for command in [NBD.Command.read, NBD.Command.write, NBD.Command.trim, NBD.Command.writeZeroes, NBD.Command.cache] {
      #expect(verdict(command, offset: 1 << 20, machine()) == 0)
      #expect(verdict(command, offset: (1 << 20) + 1, machine()) != 0)
    }
    #expect(verdict(NBD.Command.blockStatus, machine()) == NBD.Failure.invalid)
  }

  @Test func pastTheEnd() {
    let m = machine()
    for (offset, length) in [((1 << 20) - 1, 2), (1 << 20, 1), (UInt64.max, 1), (UInt64.max - 3, 4)] as [(UInt64, UInt32)] {
      let n = Int(length)
      #expect(verdict(NBD.Command.write, offset: offset, length: length, payload: n, m) == NBD.Failure.noSpace)
      #expect(verdict(NBD.Command.writeZeroes, offset: offset, length: length, m) == NBD.Failure.noSpace)
      #expect(verdict(NBD.Command.read, offset: offset, length: length, m) == NBD.Failure.invalid)
      #expect(verdict(NBD.Command.trim, offset: offset, length: length, m) == NBD.Failure.invalid)
      #expect(verdict(NBD.Command.blockStatus, offset: offset, length: length, m) == NBD.Failure.invalid)
      #expect(verdict(NBD.Command.cache, offset: offset, length: length, m) == NBD.Failure.invalid)
    }
    #expect(verdict(NBD.Command.writeZeroes, offset: 4096, length: .max, m) == NBD.Failure.noSpace)
  }

  @Test func wrongFlags() {
    for bit in 0..<UInt16(16) {
      let flag = UInt16(1) << bit
      #expect((verdict(NBD.Command.read, flags: flag, length: 1, machine()) == 0) == [0, 2].contains(bit))
      #expect((verdict(NBD.Command.read, flags: flag, length: 1, machine(structured: false)) == 0) == [0].contains(bit))
      #expect((verdict(NBD.Command.write, flags: flag, length: 1, payload: 1, machine()) == 0) == [0].contains(bit))
      #expect((verdict(NBD.Command.writeZeroes, flags: flag, length: 1, machine()) == 0) == [0, 1, 4].contains(bit))
      #expect((verdict(NBD.Command.blockStatus, flags: flag, length: 1, machine()) == 0) == [0, 3].contains(bit))
      #expect((verdict(NBD.Command.trim, flags: flag, length: 1, machine()) == 0) == [0].contains(bit))
      #expect((verdict(NBD.Command.flush, flags: flag, machine()) == 0) == [0].contains(bit))
    }
  }

  @Test func unknownCommandsAndOddRequests() {
    for command in [8, 9, 42, 0xFFFF] as [UInt16] { #expect(verdict(command, length: 9, machine()) == NBD.Failure.invalid) }
    #expect(verdict(NBD.Command.blockStatus, length: 512, machine(structured: false)) == NBD.Failure.invalid)
    #expect(verdict(NBD.Command.flush, offset: 1, machine()) == NBD.Failure.invalid)
  }

  @Test func readOnly() {
    let m = machine(readOnly: true)
    #expect(verdict(NBD.Command.write, length: 9, payload: 9, m) == NBD.Failure.notPermitted)
    #expect(verdict(NBD.Command.trim, length: 9, m) == NBD.Failure.notPermitted)
    #expect(verdict(NBD.Command.writeZeroes, length: 9, m) == NBD.Failure.notPermitted)
    #expect(verdict(NBD.Command.read, length: 9, m) == 0)
    #expect(verdict(NBD.Command.flush, m) == 0)
  }

  @Test func tooLong() {
    let small = machine(maximum: 8192)
    #expect(verdict(NBD.Command.write, length: 8193, payload: 8193, small) == NBD.Failure.invalid)
    #expect(verdict(NBD.Command.read, length: 8193, small) == NBD.Failure.invalid)
    #expect(verdict(NBD.Command.read, length: .max, machine()) == NBD.Failure.invalid)
    #expect(verdict(NBD.Command.write, length: NBD.maximumPayload + 1, machine()) == nil)
    var big = machine()
    big.size = 1 << 40
    #expect(verdict(NBD.Command.write, length: NBD.maximumPayload, payload: Int(NBD.maximumPayload), big) == 0)
  }

  @Test func shuttingDown() {
    var m = machine()
    m.isShuttingDown = true
    #expect(verdict(NBD.Command.write, length: 9, payload: 9, m) == NBD.Failure.shutdown)
    #expect(verdict(NBD.Command.read, length: 9, m) == NBD.Failure.shutdown)
  }

  @Test(arguments: [UInt32(0x1256_0953), 0x9674_4668, 0x2560_9514, 0x21e4_1c71, 0])
  func otherMagicsClose(magic: UInt32) {
    var wire = NBDWire()
    wire.request(NBD.Command.read, length: 1, magic: magic)
    #expect(TransmissionRun(wire.bytes, machine()).actions == [.close(.wrongMagic(magic))])
  }

  @Test func payloadsArriveWholeInPiecesOfAnySize() {
    let stream = NBDStreams.requests.bytes
    let whole = TransmissionRun(stream, machine())
    #expect(whole.payloads.map(\.count) == [4096, 3] && whole.payloads[1] == [1, 2, 3])
    #expect(whole.actions.count == 13 && whole.actions.last == .disconnect)
    #expect(TransmissionRun(stream, machine(), chunk: { 1 }) == whole)
    for seed in 0..<50 {
      var random = Seeded(UInt64(seed))
      #expect(TransmissionRun(stream, machine(), chunk: { Int.random(in: 1...5000, using: &random) }) == whole)
    }
  }

  /// Neither a trap nor a request out of bounds.
  @Test func mutatedStreamsAreSurvived() {
    var random = Seeded(2)
    let stream = NBDStreams.requests.bytes
    var closed = 0
    for _ in 0..<5000 {
      let bytes = NBDStreams.mutate(stream, &random)
      let run = TransmissionRun(bytes, machine(), chunk: { Int.random(in: 1...8192, using: &random) })
      #expect(run.actions.count <= bytes.count / NBD.requestSize + 1)
      for action in run.actions {
        switch action {
        case .request(let r), .write(let r):
          #expect(r.offset + UInt64(r.length) <= 1 << 20)
        case .close: closed += 1
        default: break
        }
      }
    }
    #expect(closed > 100)
  }
}

@Suite struct NBDURITests {
  @Test func percentEncoding() {
    #expect(NBDURI.unix(path: "/tmp/a b.sock") == "nbd+unix:///?socket=/tmp/a%20b.sock")
    #expect(NBDURI.unix(path: "/s", export: "vm1@a/b?ü") == "nbd+unix:///vm1%40a%2Fb%3F%C3%BC?socket=/s")
    #expect(NBDURI.tcp(host: "::1", port: 10809, export: "x") == "nbd://[::1]:10809/x")
  }
}
