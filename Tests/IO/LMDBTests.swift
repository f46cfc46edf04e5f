import ElideIO
import Glibc
import Synchronization
import Testing

@Suite struct LMDBTests {
  let directory: TemporaryDirectory
  init() throws { directory = try TemporaryDirectory() }

  private func key(_ n: Int) -> [UInt8] { withUnsafeBytes(of: UInt32(n).bigEndian) { Array($0) } }

  @Test func putsGetsAndReopens() throws {
    do {
      let env = try LMDBEnvironment(path: directory.path)
      #expect(try env.read { (t) throws(LMDBError) in try t.get("none", [1]) } == nil)
      #expect(try env.read { (t) throws(LMDBError) in try t.last("none") } == nil)
      try env.write { (t) throws(LMDBError) in
        try t.put("a", [1], [10])
        try t.put("b", [1], [20])
        #expect(try t.get("a", [1]) == [10])
      }
      try env.write { (t) throws(LMDBError) in
        try t.put("a", [1], [11])
        try t.delete("b", [1])
        try t.delete("b", [2])
      }
    }
    let env = try LMDBEnvironment(path: directory.path)
    try env.read { (t) throws(LMDBError) in
      #expect(try t.get("a", [1]) == [11])
      #expect(try t.get("b", [1]) == nil)
      #expect(try t.get("c", [1]) == nil)
    }
  }

  @Test func anErrorUndoesAll() throws {
    let env = try LMDBEnvironment(path: directory.path)
    #expect(throws: LMDBError.system(Errno(EBADMSG))) {
      try env.write { (t) throws(LMDBError) in
        try t.put("a", [1], [10])
        throw .system(Errno(EBADMSG))
      }
    }
    #expect(try env.read { (t) throws(LMDBError) in try t.get("a", [1]) } == nil)
  }

  /// A closure that goes on after an error must not commit without what did not fit.
  @Test func aSwallowedFullMapIsNotCommitted() throws {
    let env = try LMDBEnvironment(path: directory.path, mapSize: 1 << 16)
    try env.write { (t) throws(LMDBError) in
      for n in 0..<100 { try? t.put("a", key(n), [UInt8](repeating: 1, count: 2000)) }
    }
    let rows = try env.read { (t) throws(LMDBError) in
      var count = 0
      try t.scan("a", from: []) { _, _ in
        count += 1
        return true
      }
      return count
    }
    #expect(rows == 100)
  }

  @Test func scansInByteOrder() throws {
    let env = try LMDBEnvironment(path: directory.path)
    try env.write { (t) throws(LMDBError) in
      for n in [5, 1, 300, 2, 256] { try t.put("a", key(n), [UInt8(n & 0xFF)]) }
    }
    func keys(from: [UInt8], limit: Int) throws -> [[UInt8]] {
      var out: [[UInt8]] = []
      try env.read { (t) throws(LMDBError) in
        try t.scan("a", from: from) { k, _ in
          out.append(k)
          return out.count < limit
        }
      }
      return out
    }
    #expect(try keys(from: [], limit: 9) == [1, 2, 5, 256, 300].map(key))
    #expect(try keys(from: key(3), limit: 2) == [5, 256].map(key))
    #expect(try keys(from: key(301), limit: 2) == [])
    let last = try env.read { (t) throws(LMDBError) in try t.last("a") }
    #expect(last?.key == key(300) && last?.value == [44])
  }

  @Test func badKeysAndForbiddenWrites() throws {
    let env = try LMDBEnvironment(path: directory.path)
    for bad in [[], [UInt8](repeating: 1, count: 512)] {
      #expect(throws: LMDBError.system(.invalid)) { try env.write { (t) throws(LMDBError) in try t.put("a", bad, []) } }
    }
    #expect(throws: LMDBError.system(Errno(EROFS))) { try env.read { (t) throws(LMDBError) in try t.put("a", [1], []) } }
    #expect(throws: LMDBError.system(.invalid), "more tables than it was opened for") {
      try env.write { (t) throws(LMDBError) in for i in 0..<20 { try t.put("t\(i)", [1], []) } }
    }
  }

  @Test func onceInAProcess() throws {
    var env: LMDBEnvironment? = try LMDBEnvironment(path: directory.path)
    #expect(throws: LMDBError.system(Errno(EBUSY))) { try LMDBEnvironment(path: directory.path + "/.") }
    try env?.write { (t) throws(LMDBError) in try t.put("a", [1], [1]) }
    env = nil
    #expect(try LMDBEnvironment(path: directory.path).read { (t) throws(LMDBError) in try t.get("a", [1]) } == [1])
    #expect(throws: LMDBError.system(.notFound)) { try LMDBEnvironment(path: directory / "none") }
    #expect(throws: LMDBError.system(.notFound)) { try LMDBEnvironment(path: directory / "none") }
  }

  @Test func damageIsNamed() throws {
    try HostFiles().replaceFile(directory / "data.mdb", with: SeededRandom(1).bytes(16384))
    #expect {
      try LMDBEnvironment(path: directory.path)
    } throws: {
      if case .damaged? = $0 as? LMDBError { true } else { false }
    }
  }

  /// The map starts far too small: it grows under readers on other threads, which never see half of a transaction, and
  /// tables appear meanwhile.
  @Test func growsUnderReaders() throws {
    let env = try LMDBEnvironment(path: directory.path, mapSize: 1 << 16)
    let rounds = 300
    let done = Atomic(false)
    let faults = Mutex([String]())
    try onThreads(4) { i in
      if i == 0 {
        defer { done.store(true, ordering: .releasing) }
        for n in 0..<rounds {
          do {
            try env.write { (t) throws(LMDBError) in
              for m in 0..<8 { try t.put("a", self.key(n * 8 + m), [UInt8](repeating: UInt8(m), count: 2000)) }
              try t.put("table\(n % 10)", self.key(n), [1])
            }
          } catch { faults.withLock { $0.append("write \(n): \(error)") } }
        }
        return
      }
      while !done.load(ordering: .acquiring) {
        do {
          try env.read { (t) throws(LMDBError) in
            guard let last = try t.last("a") else { return }
            let n = last.key.reduce(0) { $0 << 8 | Int($1) }
            if n % 8 != 7 || last.value != [UInt8](repeating: 7, count: 2000) { faults.withLock { $0.append("saw \(n)") } }
            if try t.get("table\(n / 8 % 10)", self.key(n / 8)) != [1] { faults.withLock { $0.append("no row \(n / 8)") } }
            // A cursor points into the map from one step to the next.
            var count = 0
            try t.scan("a", from: []) { _, value in
              count += value.count == 2000 ? 1 : 0
              return true
            }
            if count != n + 1 { faults.withLock { $0.append("\(count) rows, not \(n + 1)") } }
          }
        } catch { faults.withLock { $0.append("read: \(error)") } }
      }
    }
    #expect(faults.withLock { $0 } == [])
    var count = 0
    try env.read { (t) throws(LMDBError) in
      try t.scan("a", from: []) { _, _ in
        count += 1
        return true
      }
    }
    #expect(count == rounds * 8)
  }

  @Test(.enabled(if: SmallDisk.available, "mounting a small disk needs root"))
  func fullDiskIsToldAndSurvived() throws {
    let disk = try #require(SmallDisk(kilobytes: 512))
    let env = try LMDBEnvironment(path: disk.path)
    var written = 0
    #expect(throws: LMDBError.noSpace) {
      while true {
        let n = written
        try env.write { (t) throws(LMDBError) in try t.put("a", key(n), [UInt8](repeating: 1, count: 3000)) }
        written += 1
      }
    }
    #expect(written > 10)
    #expect(try env.read { (t) throws(LMDBError) in try t.last("a") }?.key == key(written - 1))
    #expect(try env.read { (t) throws(LMDBError) in try t.get("a", key(written)) } == nil)
  }
}
