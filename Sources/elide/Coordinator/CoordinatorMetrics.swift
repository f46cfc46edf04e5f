import ElideEngine
import ElideIO
import ElideProjections

extension CoordinatorAPI {
  /// Everything that is counted: names, processes, each volume as its process says, the store as this process sees it.
  func metrics() throws -> String {
    var m = MetricsText()
    try addHost(&m)
    for served in served() { add(served, &m) }
    return m.text
  }

  private func addHost(_ m: inout MetricsText) throws {
    let status = try status()
    m.add(
      "elide_coordinator_uptime_seconds", .gauge, "Since the coordinator started.", [], Double(status.uptimeMilliseconds) / 1000)
    let counts = commandCounts
    m.add("elide_commands_total", .counter, "Lifecycle commands carried out.", [], counts.all)
    m.add("elide_commands_failed_total", .counter, "Lifecycle commands that were refused or failed.", [], counts.failed)
    m.add("elide_alarms", .gauge, "Things that somebody should look at.", [], UInt64(status.alarms.count))
    m.add(
      "elide_open_attempts", .gauge, "Appends to name logs whose outcome is not known yet.", [], UInt64(status.openAttempts.count)
    )
    m.add(
      "elide_store_silent_seconds", .gauge, "How long the store has not answered the coordinator; 0 while it does.", [],
      Double(status.storeSilentMilliseconds) / 1000)
    var phases: [String: UInt64] = [:]
    for name in try knownNames() { phases[name.phase.rawValue, default: 0] += 1 }
    for phase in NameState.Phase.allCases {
      m.add(
        "elide_names", .gauge, "Names that this host knows, by phase.", [("phase", phase.rawValue)], phases[phase.rawValue] ?? 0)
    }
    let c = storeCounters
    m.add("elide_store_requests_total", .counter, "Requests of the coordinator to the store.", [("method", "GET")], c.gets)
    m.add("elide_store_requests_total", .counter, "", [("method", "PUT")], c.puts)
    m.add("elide_store_requests_total", .counter, "", [("method", "LIST")], c.lists)
    m.add("elide_store_read_bytes_total", .counter, "Bytes that the coordinator read from the store.", [], c.bytesRead)
    m.add("elide_store_written_bytes_total", .counter, "Bytes that the coordinator wrote to the store.", [], c.bytesWritten)
  }

  private func add(_ served: CoordinatorWire.Served, _ m: inout MetricsText) {
    let l = [("name", served.name), ("volume", served.volume)]
    for phase in ["launching", "running", "ending", "waiting", "parked"] {
      m.add(
        "elide_volume_phase", .gauge, "1 for the phase that the volume's process is in.", l + [("phase", phase)],
        served.phase == phase ? 1 : UInt64(0))
    }
    m.add("elide_volume_restarts_total", .counter, "Processes started after the first.", l, served.restarts)
    guard let s = served.status else { return }
    m.add("elide_volume_size_bytes", .gauge, "Size of the device.", l, s.size)
    m.add("elide_volume_clients", .gauge, "Connected clients.", l, s.clients ?? 0)
    m.add("elide_volume_unsealed_bytes", .gauge, "Data in write-ahead files that are not sealed.", l, s.unsealedBytes)
    m.add("elide_volume_unsent_bytes", .gauge, "Sealed data that the store has not confirmed.", l, s.unsentBytes)
    m.add(
      "elide_volume_exposure_seconds", .gauge, "Age of the oldest byte that no published cut covers.", l,
      Double(s.exposureMilliseconds) / 1000)
    m.add(
      "elide_volume_store_silent_seconds", .gauge, "How long the store has not answered the volume's process.", l,
      Double(s.unreachableMilliseconds) / 1000)
    m.add("elide_volume_halted", .gauge, "1 when the volume has halted.", l, s.state == "halted" ? 1 : UInt64(0))
    m.add("elide_volume_segments", .gauge, "Segments in its table.", l, UInt64(s.segments))
    m.add(
      "elide_volume_waiting_fetches", .gauge, "Fetches that wait for a store that does not answer.", l, UInt64(s.waitingFetches))
    m.add("elide_volume_uploaded_segments_total", .counter, "Segments uploaded.", l, s.segmentsUploaded)
    m.add("elide_volume_uploaded_bytes_total", .counter, "Bytes of segments uploaded.", l, s.bytesUploaded)
    m.add("elide_volume_published_pages_total", .counter, "Journal pages published.", l, s.pagesPublished)
    m.add("elide_volume_fetches_total", .counter, "Fetches from the store.", l, s.fetches)
    m.add("elide_volume_duplicate_blocks_total", .counter, "Blocks that were stored already.", l, s.duplicateBlocks)
    m.add("elide_volume_store_failures_total", .counter, "Store requests that failed.", l, s.storeFailures)
    m.add("elide_volume_failed_reads_total", .counter, "Reads that failed for good.", l, s.failedReads)
    for stage in s.stages {
      let at = l + [("stage", stage.stage)]
      m.add("elide_volume_stage_total", .counter, "Steps of each stage of the write path.", at, stage.count)
      m.add("elide_volume_stage_bytes_total", .counter, "Bytes that went through each stage.", at, stage.bytes)
      m.add(
        "elide_volume_stage_seconds_total", .counter, "Time spent in each stage.", at, Double(stage.microseconds) / 1_000_000)
    }
  }
}
