extension BlockMap {
  /// What is wrong with the structure, as sentences; empty when nothing is. Writer; walks everything.
  package func checkInvariants() -> [String] {
    var faults: [String] = []
    var nodes = 1
    check(top, level: 3, base: 0, nodes: &nodes, &faults)
    if nodes + retired.count != nodeCount {
      faults.append("\(nodes) nodes in the tree and \(retired.count) retired, but \(nodeCount) counted")
    }
    return faults
  }

  private func check(
    _ words: UnsafeMutablePointer<UInt64>, level: Int, base: UInt64, nodes: inout Int, _ faults: inout [String]
  ) {
    var constants = [0, 0]
    for i in 0..<Level.fanout {
      let word = words[i]
      let lba = base + UInt64(i) * Level.span(level)
      func fault(_ what: String) { faults.append("slot of level \(level) at block \(lba): \(what)") }
      switch Slot.tag(word) {
      case Slot.inner:
        if level == 1 { fault("an inner node where a leaf should be") }
        nodes += 1
        check(Slot.node(word), level: level - 1, base: lba, nodes: &nodes, &faults)
      case Slot.runs, Slot.dense:
        if level != 1 { fault("a leaf above the leaves") }
        nodes += 1
        checkLeaf(word, fault)
      case 0, 1 << 60:
        constants[Int(word >> 60)] += 1
        if word << 4 != 0 { fault("a constant with an argument") }
      case 2 << 60:
        if level != 1 { fault("a run of blocks above the leaves") }
        if BlockHandle(raw: word).r > 1 << 20 - 1024 { fault("a run past the end of its segment") }
      default: fault("unknown word \(word)")
      }
      if lba >= blocks, word != 0 { fault("written past the end of the volume") }
    }
    let inner = InnerNode(words: words)
    for tag in 0...1 {
      let counted = inner.constants(UInt64(tag) << 60)
      if counted == constants[tag] { continue }
      faults.append("node of level \(level) at \(base): \(constants[tag]) slots of constant \(tag), \(counted) counted")
    }
    if level < 3, constants.contains(Level.fanout) { faults.append("node of level \(level) at \(base) is one constant") }
  }

  private func checkLeaf(_ word: UInt64, _ fault: (String) -> Void) {
    scratch.load(word)
    if scratch.count < 2 { fault("a leaf of one run") }
    var block = 0
    for i in 0..<scratch.count {
      let handle = BlockHandle(raw: scratch.handles[i])
      if Int(scratch.starts[i]) != block || scratch.end(i) <= block { fault("runs out of order") }
      if i > 0, handle.follows(BlockHandle(raw: scratch.handles[i - 1]), after: UInt64(block - Int(scratch.starts[i - 1]))) {
        fault("a run that continues the one before")
      }
      block = scratch.end(i)
    }
    if Slot.tag(word) == Slot.runs {
      if scratch.count > RunsLeaf.limit { fault("\(scratch.count) runs in a leaf of few") }
    } else if Slot.node(word)[0] != UInt64(scratch.count) || scratch.count <= RunsLeaf.comeBack {
      fault("a dense leaf of \(scratch.count) runs that counts \(Slot.node(word)[0])")
    }
  }
}
