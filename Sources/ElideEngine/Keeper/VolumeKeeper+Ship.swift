import ElideEvents
import ElideIO
import ElideProjections

// waiting ─▶ encoding (ship lane) ─segment_encoded─▶ encoded ─▶ uploading (ship lane) ─segment_uploaded─▶ gone
//                                                      ▲            │ failed
//                                                      └─ backoff ──┘

extension VolumeKeeper {
  /// - Parameter hashes: of its blocks, where they are known; kept for a bounded number of shipments.
  func addShipment(_ segment: UInt64, blocks: UInt64, hashes: [Digest]? = nil) {
    var shipment = Shipment(segment: segment, blocks: blocks, backoff: Backoff(context.configuration))
    if shipments.count < Shipment.withHashes { shipment.hashes = hashes }
    shipments[segment] = shipment
    unsentBytes += blocks * 4096
  }

  /// Starts one encoding or upload, oldest segment first.
  func shipNext() throws(KeeperHalt) -> Bool {
    guard !shipments.isEmpty, ending?.ship ?? true else { return false }
    let now = context.now
    let busy = shipments.values.reduce(0) { $0 + ($1.isInFlight ? 1 : 0) }
    for number in shipments.keys.sorted() {
      guard let shipment = shipments[number], shipment.backoff.isReady(at: now) else { continue }
      switch shipment.phase {
      case .waiting where busy < context.configuration.shipments: return startEncoding(number)
      case .encoded(let body):
        startUpload(number, body)
        return true
      default: continue
      }
    }
    return false
  }

  /// Encoding may wait while there is room, and nobody waits for what it is about.
  private var isEncodingOverdue: Bool {
    !awaiting.isEmpty || ending != nil || unsentBytes > context.configuration.unsentBytes / 2
  }

  private func startEncoding(_ number: UInt64) -> Bool {
    guard let entry = tables.directory[number], let content = tables.state.segments[number]?.content else { return false }
    let file: CachedSegment
    do throws(Errno) { file = try segments.attach(number) } catch {
      shipmentFailed(number, "segment \(number): \(error)")
      return false
    }
    let hashes = shipments[number]?.hashes
    shipments[number]?.phase = .encoding
    let (cache, level, results, stages) = (context.cache, context.configuration.level, results, context.stages)
    context.executor.submit(isEncodingOverdue ? .overdue : .ship) {
      let start = stages.now()
      let result: Result<EncodedSegmentBody, SegmentError>
      do throws(SegmentError) {
        result = .success(
          try SegmentEncoderJob.run(
            entry: entry, content: content, file: file, hashes: hashes, cache: cache, level: level))
      } catch { result = .failure(error) }
      stages.add(.encode, bytes: Int(entry.blocks) * 4096, since: start)
      _ = results.send(.encoded(segment: number, result))
    }
    return true
  }

  /// The body is named in the journal before its first byte leaves.
  func encoded(_ number: UInt64, _ result: Result<EncodedSegmentBody, SegmentError>) throws(KeeperHalt) {
    guard shipments[number] != nil else { return }
    switch result {
    case .failure(let error):
      shipments[number]?.phase = .waiting
      shipmentFailed(number, "\(error)")
    case .success(let body):
      // After a restart the same encoding may come out, and is named already.
      if tables.state.segments[number]?.encoded != body.event {
        guard try append([.segmentEncoded(body.event)], blobs: [KeptBlob(body.blob)]) else {
          shipments[number]?.phase = .waiting
          shipmentFailed(number, "the journal's disk is full")
          return
        }
      }
      encodings.shelve(number, body.blob)
      shipments[number]?.phase = .encoded(body)
    }
  }

  private func startUpload(_ number: UInt64, _ body: EncodedSegmentBody) {
    shipments[number]?.phase = .uploading(body)
    let key = StoreLayout.body(volume: context.volume, segment: number, hash: body.event.hash)
    let (store, results, stages) = (context.store, results, context.stages)
    context.executor.submit(.ship) {
      let start = stages.now()
      var failure: StoreError?
      do throws(StoreError) { try store.put(key, parts: body.parts) } catch { failure = error }
      stages.add(.put, bytes: Int(body.event.length), since: start)
      _ = results.send(.uploaded(segment: number, hash: body.event.hash, failure))
    }
  }

  func uploaded(_ number: UInt64, _ hash: Digest, _ failure: StoreError?) throws(KeeperHalt) {
    guard let shipment = shipments[number], case .uploading(let body) = shipment.phase, body.event.hash == hash else { return }
    if let failure {
      shipments[number]?.phase = .encoded(body)
      shipmentFailed(number, "\(failure)")
      return
    }
    guard try append([.segmentUploaded(segment: number, hash: hash)]) else {
      shipments[number]?.phase = .encoded(body)
      shipmentFailed(number, "the journal's disk is full")
      return
    }
    shipments[number] = nil
    segments.attached(number)?.release(hash)
    unsentBytes -= shipment.blocks * 4096
    writes.failingSince = nil
    counters.segmentsUploaded += 1
    counters.bytesUploaded += body.event.length
    lastError = nil
  }

  private func shipmentFailed(_ number: UInt64, _ detail: String) {
    shipments[number]?.backoff.failed(at: context.now)
    writes.failingSince = writes.failingSince ?? context.now
    counters.storeFailures += 1
    lastError = "segment \(number) is not in the store yet: \(detail)"
  }

  /// The cut that a page up to the journal's head would publish.
  var cutAtHead: UInt64 {
    guard let head = journal.head?.seq else { return 0 }
    let first = shipments.keys.compactMap { tables.state.segments[$0]?.sealedSeq }.min()
    return max(pageLog.cut ?? 0, min(head, first.map { $0 - 1 } ?? head))
  }
}
