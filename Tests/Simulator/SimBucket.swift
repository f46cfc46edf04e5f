import ElideIO

/// What a simulated store holds, for all hosts that talk to it: a map, changed by one request at a time. It outlives
/// hosts and their crashes. One thread steps a simulated world, hence unchecked.
package final class SimBucket: @unchecked Sendable {
  package private(set) var objects: [String: [UInt8]] = [:]
  /// Each change of any object; how a checker knows that there is something new to look at.
  package private(set) var version: UInt64 = 0
  /// PUTs that a network has kept, to be delivered when nobody expects them any more.
  private var delayed: [(key: String, bytes: [UInt8], ifAbsent: Bool)] = []

  package init() {}

  package var keys: [String] { objects.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
  package var waitingDuplicates: Int { delayed.count }

  func put(_ key: String, _ bytes: [UInt8], ifAbsent: Bool) -> PutOutcome {
    if ifAbsent, objects[key] != nil { return .exists }
    objects[key] = bytes
    version += 1
    return .created
  }
  func delete(_ key: String) { if objects.removeValue(forKey: key) != nil { version += 1 } }
  func delay(_ key: String, _ bytes: [UInt8], ifAbsent: Bool) { delayed.append((key, bytes, ifAbsent)) }

  /// Delivers one kept PUT, drawn by `random`; false when there is none.
  @discardableResult
  package func deliverDuplicate(_ random: inout SeededRandom) -> Bool {
    if delayed.isEmpty { return false }
    let d = delayed.remove(at: random.below(delayed.count))
    _ = put(d.key, d.bytes, ifAbsent: d.ifAbsent)
    return true
  }

  /// A copy that nobody else writes to: what an auditor took along.
  package func copy() -> SimBucket {
    let other = SimBucket()
    other.objects = objects
    other.version = version
    return other
  }

  /// What somebody may do to an object: change a byte, cut it, lengthen it, put another's bytes there, remove it.
  package func change(_ key: String, what: UInt8, at: Int, value: UInt8) {
    guard var bytes = objects[key] else { return }
    version += 1
    switch what % 8 {
    case 0...2 where at < bytes.count: bytes[at] ^= value
    case 3 where at < bytes.count: bytes[at] = value
    case 4: bytes.removeLast(max(0, bytes.count - at))
    case 5: bytes.insert(value, at: min(at, bytes.count))
    case 6: bytes = objects[keys[at % keys.count]] ?? []
    case 7:
      objects[key] = nil
      return
    default: return
    }
    objects[key] = bytes
  }

  /// Puts or removes an object behind everybody's back.
  package func write(_ key: String, _ bytes: [UInt8]) { _ = put(key, bytes, ifAbsent: false) }
  package func remove(_ key: String) { delete(key) }

  /// Damages an object, for tests that must see it noticed.
  package func flip(_ key: String, byte: Int) {
    guard var bytes = objects[key], byte < bytes.count else { return }
    bytes[byte] ^= 0x40
    objects[key] = bytes
    version += 1
  }
}

/// How often the network and the store misbehave; chances in 2^16 per request.
package struct StoreWeather: Sendable {
  /// The request never arrives, and nobody says so.
  package var lostRequest: UInt64 = 0
  /// It is done; the answer is lost.
  package var lostResponse: UInt64 = 0
  /// 5xx: not done.
  package var serverError: UInt64 = 0
  /// A PUT that arrives, and arrives once more much later.
  package var duplicate: UInt64 = 0
  /// A list that lacks the newest objects.
  package var staleList: UInt64 = 0
  /// Denied, for the time being.
  package var refused: UInt64 = 0

  package init() {}
  package static let clear = StoreWeather()
  package var isStormy: Bool { lostRequest + lostResponse + serverError + refused > 0 }
  package static let stormy: StoreWeather = {
    var w = StoreWeather()
    w.lostRequest = 3000
    w.lostResponse = 3000
    w.serverError = 3000
    w.duplicate = 3000
    w.staleList = 3000
    return w
  }()
}
