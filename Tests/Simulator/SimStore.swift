import ElideIO

/// One host's connection to a `SimBucket`: loses requests, loses answers, repeats them late, as the seed says. An object
/// is there whole or not at all. Requests count as calls of the host (`SimFaults`), so a crash may come before a request,
/// or after it was done and before its answer. One thread steps a simulated world, hence unchecked.
package final class SimStore: Store, @unchecked Sendable {
  package let url: String
  package let bucket: SimBucket
  package let faults: SimFaults
  package var weather: StoreWeather
  package private(set) var counters = StoreCounters()
  private var random: SeededRandom

  package init(
    _ bucket: SimBucket, seed: UInt64, faults: SimFaults = SimFaults(), weather: StoreWeather = .clear,
    url: String = "sim://bucket"
  ) {
    self.bucket = bucket
    self.faults = faults
    self.weather = weather
    self.url = url
    random = SeededRandom(seed: seed ^ 0x570E)
  }

  private enum Fate { case normal, lost, answerLost, serverError, refused, crashAfter }

  /// What happens to a request; throws when the host is gone, or when the request was told to fail.
  private func fate(_ operation: String, _ key: String, mutates: Bool) throws(StoreError) -> Fate {
    if let fault = StoreKey.fault(key), operation != "list" { throw .refused(key: key, detail: "the key \(fault)") }
    switch faults.enter(faults.site(operation, Self.place(key), mutates: mutates)) {
    case .fail(let error):
      if error == .noSpace { throw .refused(key: key, detail: "\(error)") }
      throw .unknown(key: key, detail: "\(error)")
    case .crash(.before): throw .unknown(key: key, detail: "the host is gone")
    case .crash: return .crashAfter
    case .proceed: break
    }
    if random.chance(weather.lostRequest, in: 65536) { return .lost }
    if random.chance(weather.lostResponse, in: 65536) { return .answerLost }
    if random.chance(weather.serverError, in: 65536) { return .serverError }
    if random.chance(weather.refused, in: 65536) { return .refused }
    return .normal
  }

  /// "segments" of "volumes/<id>/segments/<n>": the last component that is a word.
  private static func place(_ key: String) -> String {
    let parts = key.split(separator: "/")
    return parts.last { $0.utf8.allSatisfy { $0 >= UInt8(ascii: "a") && $0 <= UInt8(ascii: "z") } }.map(String.init)
      ?? String(parts.first ?? "")
  }

  private func store(_ key: String, _ bytes: [UInt8], ifAbsent: Bool) throws(StoreError) -> PutOutcome {
    counters.puts += 1
    counters.bytesWritten += UInt64(bytes.count)
    let fate = try fate(ifAbsent ? "putIfAbsent" : "put", key, mutates: true)
    switch fate {
    case .lost:
      // Not applied now; perhaps it is still on its way.
      if random.chance(1, in: 2) { bucket.delay(key, bytes, ifAbsent: ifAbsent) }
      throw .unknown(key: key, detail: "timed out")
    case .serverError: throw .unknown(key: key, detail: "503")
    case .refused: throw .refused(key: key, detail: "denied")
    case .answerLost, .crashAfter:
      _ = bucket.put(key, bytes, ifAbsent: ifAbsent)
      throw .unknown(key: key, detail: "connection reset")
    case .normal: break
    }
    if random.chance(weather.duplicate, in: 65536) { bucket.delay(key, bytes, ifAbsent: ifAbsent) }
    return bucket.put(key, bytes, ifAbsent: ifAbsent)
  }

  package func putIfAbsent(_ key: String, _ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PutOutcome {
    try store(key, [UInt8](bytes), ifAbsent: true)
  }

  package func put(_ key: String, parts: [[UInt8]]) throws(StoreError) {
    _ = try store(key, Array(parts.joined()), ifAbsent: false)
  }

  package func get(_ key: String, range: Range<UInt64>?) throws(StoreError) -> [UInt8] {
    counters.gets += 1
    guard try fate("get", key, mutates: false) == .normal else { throw .unknown(key: key, detail: "timed out") }
    guard let bytes = bucket.objects[key] else { throw .notFound(key: key) }
    let first = min(Int(clamping: range?.lowerBound ?? 0), bytes.count)
    let last = min(Int(clamping: range?.upperBound ?? .max), bytes.count)
    counters.bytesRead += UInt64(last - first)
    return Array(bytes[first..<last])
  }

  package func list(_ prefix: String, after: String?, limit: Int) throws(StoreError) -> [StoredObject] {
    counters.lists += 1
    guard try fate("list", prefix, mutates: false) == .normal else { throw .unknown(key: prefix, detail: "timed out") }
    var keys = bucket.keys.filter { $0.hasPrefix(prefix) }
    if let after { keys = keys.filter { after.utf8.lexicographicallyPrecedes($0.utf8) } }
    if random.chance(weather.staleList, in: 65536) { keys = Array(keys.dropLast(1 + random.below(2))) }
    return keys.prefix(limit).map { StoredObject(key: $0, size: UInt64(bucket.objects[$0]?.count ?? 0)) }
  }

  package func delete(_ key: String) throws(StoreError) {
    counters.deletes += 1
    let fate = try fate("delete", key, mutates: true)
    switch fate {
    case .normal: bucket.delete(key)
    case .answerLost, .crashAfter:
      bucket.delete(key)
      throw .unknown(key: key, detail: "connection reset")
    default: throw .unknown(key: key, detail: "timed out")
    }
  }
}
