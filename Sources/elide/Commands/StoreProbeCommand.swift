import ArgumentParser
import ElideEngine
import ElideIO

struct StoreProbeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "probe", abstract: "Find out what a store honours, by trying, and what that means.",
    discussion: """
      Example:
        elide store probe --store 's3://vms?endpoint=https://s3.example.net'

      Puts a few small objects under probe/, and removes them. Ends with 0 when a store can live there, with 13 when not.
      """)
  @OptionGroup var options: GlobalOptions
  @OptionGroup var json: JSONOption

  private struct Check: Encodable {
    let check: String
    let need: String
    let result: String
    let meaning: String
    let detail: String?
  }
  private struct Latency: Encodable {
    let request: String
    let count: Int
    let bytes: Int
    let medianMicroseconds: UInt64
    let worstMicroseconds: UInt64
  }
  private struct Document: Encodable {
    let store: String
    let usable: Bool
    let checks: [Check]
    let latencies: [Latency]
    let clockAheadMilliseconds: Int64?
  }

  func run() throws {
    let world = World.host()
    let store = try Engine.openStore(options.storeURL, world, create: true)
    var probe = StoreProbe(store, world: world)
    let report: ProbeReport
    do throws(StoreError) { report = try probe.run() } catch { throw ElideError(error) }
    let checks = report.findings.map {
      Check(
        check: $0.question.rawValue, need: $0.question.need.rawValue, result: $0.result.rawValue,
        meaning: $0.question.meaning($0.result), detail: $0.detail.isEmpty ? nil : $0.detail)
    }
    if json.json {
      let latencies = report.latencies.map {
        Latency(
          request: $0.what, count: $0.count, bytes: $0.bytes, medianMicroseconds: $0.medianMicroseconds,
          worstMicroseconds: $0.worstMicroseconds)
      }
      try Output.json(
        Document(
          store: report.store, usable: report.isUsable, checks: checks, latencies: latencies,
          clockAheadMilliseconds: report.clockAheadMilliseconds))
    } else {
      show(report, checks)
    }
    if !report.isUsable {
      throw ElideError(.storeRefused, "no store can live at \(report.store): see the checks that are needed")
    }
  }

  private func show(_ report: ProbeReport, _ checks: [Check]) {
    Output.table(
      ["CHECK", "", "RESULT", "WHAT IT MEANS"],
      checks.map { check in
        [
          check.check, check.need, check.result,
          [check.meaning, check.detail ?? ""].filter { !$0.isEmpty }.joined(separator: "; "),
        ]
      })
    print("")
    Output.table(
      ["REQUEST", "MEDIAN", "WORST", "RATE"],
      report.latencies.map {
        let rate = UInt64($0.bytes) * 1_000_000 / max(1, $0.medianMicroseconds)
        return [$0.what, Self.time($0.medianMicroseconds), Self.time($0.worstMicroseconds), ByteSize.text(rate) + "/s"]
      })
    print("")
    print("\(report.store): \(report.isUsable ? "a store can live there" : "NO store can live there")")
  }

  private static func time(_ microseconds: UInt64) -> String {
    microseconds < 10_000 ? "\(microseconds) µs" : "\(microseconds / 1000) ms"
  }
}
