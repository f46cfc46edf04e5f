import Testing

@testable import ElideIO

@Suite struct NBDHandshakeTests {
  private func run(_ build: (inout NBDWire) -> Void) -> HandshakeRun {
    var wire = NBDWire.flags()
    build(&wire)
    return HandshakeRun(wire.bytes)
  }

  @Test func greeting() {
    #expect(Handshake.greeting == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
  }

  @Test func goTellsSizeFlagsAndBlockSizes() throws {
    let run = run { $0.option(NBD.Option.go, NBDWire.go("disk", infos: [1, 2, 3])) }
    #expect(run.types == [3, 3, 3, 3, 1])
    #expect(run.replies[0].payload == [0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x01, 0x7D])
    #expect(run.replies[1].payload == [0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0])
    #expect(run.replies[2].payload == [0, 1] + Array("disk".utf8))
    #expect(run.replies[3].payload == [0, 2] + Array("a disk".utf8))
    let agreement = try #require(run.agreement)
    #expect(agreement.export.name == "disk" && !agreement.structuredReplies && agreement.contexts == [])
  }

  @Test func theEmptyNameIsTheFirstExport() {
    let run = run { $0.option(NBD.Option.go, NBDWire.go("", infos: [1])) }
    #expect(run.agreement?.export.name == "disk")
    #expect(run.agreement?.requestedName == "")
    #expect(run.replies[2].payload == [0, 1] + Array("disk".utf8))
  }

  @Test func infoAnswersLikeGoAndGoesOn() {
    let info = run { $0.option(NBD.Option.info, NBDWire.go("disk@snap", infos: [0, 1, 2, 3, 77])) }
    let go = run { $0.option(NBD.Option.go, NBDWire.go("disk@snap", infos: [0, 1, 2, 3, 77])) }
    #expect(info.replies.map(\.payload) == go.replies.map(\.payload) && info.types == go.types)
    #expect(info.agreement == nil && info.closed == nil && go.agreement != nil)
  }

  @Test func exportNameWithAndWithoutZeroes() {
    var wire = NBDWire.flags(1)
    wire.option(NBD.Option.exportName, Array("disk".utf8))
    let long = HandshakeRun(wire.bytes)
    #expect(long.output.count == 134 && long.output[10...].allSatisfy { $0 == 0 })
    #expect(long.output[..<10] == [0, 0, 0, 0, 0, 0x10, 0, 0, 0x01, 0x7D])
    let short = run { $0.option(NBD.Option.exportName) }
    #expect(short.output.count == 10 && short.agreement?.export.name == "disk")
    #expect(run { $0.option(NBD.Option.exportName, Array("nobody".utf8)) }.closed != nil)
  }

  @Test func listNamesAllExports() {
    let run = run { $0.option(NBD.Option.list) }
    #expect(run.types == [2, 2, 1])
    #expect(run.replies[1].payload == NBDWire.text("disk@snap"))
    #expect(self.run { $0.option(NBD.Option.list, [0]) }.types == [NBD.OptionReply.invalid])
  }

  @Test func abortIsAcknowledged() {
    let run = run { $0.option(NBD.Option.abort) }
    #expect(run.types == [1] && run.closed != nil)
  }

  @Test func structuredRepliesBringDontFragment() {
    let run = run {
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types == [1, 3, 3, 1] && run.replies[1].payload.suffix(2) == [0x01, 0xFD])
    #expect(run.agreement?.structuredReplies == true)
    #expect(self.run { $0.option(NBD.Option.structuredReply, [1]) }.types == [NBD.OptionReply.invalid])
  }

  @Test func contextsAreSelectedPerExport() {
    func contexts(_ queries: [String], for name: String = "disk", go: String = "disk") -> HandshakeRun {
      run {
        $0.option(NBD.Option.structuredReply)
        $0.option(NBD.Option.setMetaContext, NBDWire.contexts(name, queries))
        $0.option(NBD.Option.go, NBDWire.go(go))
      }
    }
    let both = contexts(["elide:residency", "base:allocation", "base:allocation", "other:thing"])
    #expect(both.agreement?.contexts == [.allocation, .residency])
    #expect(both.types.prefix(4) == [1, 4, 4, 1])
    #expect(both.replies[1].payload == [0, 0, 0, 1] + Array("base:allocation".utf8))
    #expect(contexts(["base:"]).agreement?.contexts == [])
    #expect(contexts([]).agreement?.contexts == [])
    #expect(contexts(["base:allocation"], go: "disk@snap").agreement?.contexts == [])
    #expect(contexts(["base:allocation"], for: "nobody").types.prefix(2) == [1, NBD.OptionReply.unknown])
  }

  @Test func aRefusedSetForgetsTheLastOne() {
    let run = run {
      $0.option(NBD.Option.structuredReply)
      $0.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation"]))
      $0.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", ["base:allocation"]) + [9])
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types.prefix(4) == [1, 4, 1, NBD.OptionReply.invalid] && run.agreement?.contexts == [])
  }

  @Test func listOfContextsKnowsWildcards() {
    func list(_ queries: [String]) -> [UInt32] {
      run { $0.option(NBD.Option.listMetaContext, NBDWire.contexts("disk", queries)) }.types
    }
    #expect(list([]) == [4, 4, 1])
    #expect(list(["base:"]) == [4, 1])
    #expect(list(["elide:"]) == [4, 1])
    #expect(list(["bas"]) == [1])
    #expect(run { $0.option(NBD.Option.setMetaContext, NBDWire.contexts("disk", [])) }.types == [NBD.OptionReply.invalid])
  }

  @Test(arguments: [UInt32(0), 4, 5, 12, 99, .max])
  func optionsNotSupportedLeaveTheStreamParseable(option: UInt32) {
    let run = run {
      $0.option(option, [1, 2, 3])
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types.first == NBD.OptionReply.unsupported && run.replies.first?.option == option && run.agreement != nil)
  }

  @Test func aHugeOptionIsSkippedAndRefused() {
    let run = run {
      $0.option(NBD.Option.go, [UInt8](repeating: 7, count: NBD.maximumOption + 1))
      $0.option(99, [UInt8](repeating: 7, count: 1 << 20))
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types.prefix(2) == [NBD.OptionReply.tooBig, NBD.OptionReply.tooBig] && run.agreement != nil)
  }

  private static let malformed: [[UInt8]] = [
    Array(NBDWire.go("disk").dropLast()), NBDWire.go("disk") + [0], Array(NBDWire.go("disk", infos: [3]).dropLast(2)), [],
    [0, 0],
    [0xFF, 0xFF, 0xFF, 0xFF, 0, 0], NBDWire.text(String(repeating: "x", count: 4097)) + [0, 0], [0, 0, 0, 1, 0xFF, 0, 0],
  ]
  @Test(arguments: malformed.indices)
  func malformedGoIsInvalid(index: Int) {
    let run = run {
      $0.option(NBD.Option.go, Self.malformed[index])
      $0.option(NBD.Option.go, NBDWire.go("disk"))
    }
    #expect(run.types.first == NBD.OptionReply.invalid && run.agreement != nil)
  }

  @Test func unknownExportsAreRefused() {
    #expect(run { $0.option(NBD.Option.go, NBDWire.go("nobody")) }.types == [NBD.OptionReply.unknown])
    var wire = NBDWire.flags()
    wire.option(NBD.Option.go, NBDWire.go(""))
    #expect(HandshakeRun(wire.bytes, catalogue: FixedCatalogue(exports: [])).types == [NBD.OptionReply.unknown])
  }

  @Test func whatEndsTheConnection() {
    #expect(HandshakeRun(NBDWire.flags(4).bytes).closed != nil)
    #expect(HandshakeRun(NBDWire.flags(0x8000_0001).bytes).closed != nil)
    #expect(run { $0.option(1, magic: NBD.optionReplyMagic) }.closed != nil)
    #expect(run { $0.option(NBD.Option.exportName, length: 4097) }.closed != nil)
    var old = NBDWire.flags(0)
    old.option(NBD.Option.list)
    #expect(HandshakeRun(old.bytes).closed != nil)
    var plain = NBDWire.flags(0)
    plain.option(NBD.Option.exportName, Array("disk".utf8))
    #expect(HandshakeRun(plain.bytes).agreement != nil)
  }

  @Test func piecesOfAnySizeGiveTheSame() {
    for stream in NBDStreams.handshakes {
      let whole = HandshakeRun(stream)
      #expect(HandshakeRun(stream, chunk: { 1 }) == whole)
      for seed in 0..<20 {
        var random = Seeded(UInt64(seed))
        #expect(HandshakeRun(stream, chunk: { Int.random(in: 1...200, using: &random) }) == whole)
      }
    }
  }

  /// Neither a trap nor more output than the options can ask for.
  @Test func mutatedStreamsAreSurvived() {
    var random = Seeded(1)
    var ended = 0
    for stream in NBDStreams.handshakes {
      for _ in 0..<1000 {
        let bytes = NBDStreams.mutate(stream, &random)
        let run = HandshakeRun(bytes, chunk: { Int.random(in: 1...4096, using: &random) })
        #expect(run.output.count <= 256 * (bytes.count / NBD.optionHeaderSize + 1))
        if run.closed != nil { ended += 1 }
      }
    }
    #expect(ended > 100)
  }
}
