import CElide
import Glibc

/// The limits and habits of an NBD server. Times are in milliseconds, sizes in bytes.
package struct NBDServerConfiguration: Sendable {
  package var maximumConnections = 128
  /// On one export. Whoever wants to enter it beyond that is told that it may not (ERR_POLICY).
  package var maximumConnectionsPerExport = Int.max
  /// Of one connection: requests in flight, and the bytes of their buffers. Past these its socket is not read.
  package var requestsInFlight = 128
  package var bytesInFlight = 64 << 20
  /// Of all connections together. A connection with nothing in flight may always have one request.
  package var totalBytesInFlight = 512 << 20
  /// The data of one request, at most 32 MiB.
  package var maximumPayload = NBD.maximumPayload
  /// A client that has not entered an export by then is dropped.
  package var handshakeTimeout = 30_000
  /// A client on an export that asks for nothing this long is disconnected; 0 for never. It may take up to twice as long, since
  /// the clock is looked at now and then only.
  package var idleTimeout = 0
  /// A stop waits this long for what is in flight.
  package var drainTimeout = 10_000
  /// How the server looks for the next request before it sleeps: saves a wake-up per request at depth 1.
  package var spin = Spin.adaptive(50)
  /// Of a Unix socket; a TCP socket is left to the system.
  package var sendBuffer = 4 << 20
  /// What clients that ask for TLS get; nil for none. Not to be touched once the server runs.
  package var tls: TLSContext?
  /// Nothing is told to a client, and no export entered, before TLS has begun. Needs `tls`.
  package var requiresTLS = false
  var tlsPolicy: TLSPolicy { tls == nil ? .off : requiresTLS ? .required : .allowed }
  /// Takes a line when a connection comes, goes or is dropped. Called on the server's thread.
  package var log: @Sendable (String) -> Void = { _ in }

  package init() {}
}

/// What a server has done so far.
package struct NBDStatistics: Equatable, Sendable {
  package var connections: UInt64 = 0
  package var connectionsOpen: UInt64 = 0
  /// Too many, or turned away at a stop.
  package var connectionsRefused: UInt64 = 0
  /// Closed for what they sent, or for not getting through the handshake.
  package var connectionsDropped: UInt64 = 0
  package var reads: UInt64 = 0
  package var writes: UInt64 = 0
  package var flushes: UInt64 = 0
  package var trims: UInt64 = 0
  package var caches: UInt64 = 0
  package var writeZeroes: UInt64 = 0
  package var blockStatuses: UInt64 = 0
  package var readBytes: UInt64 = 0
  package var writtenBytes: UInt64 = 0
  /// Requests answered with an error, refused ones included.
  package var errors: UInt64 = 0
}

/// Counters with one writer, the server's thread, and readers anywhere.
struct ServerCounters: Sendable {
  enum Index: Int, CaseIterable {
    case connections, connectionsOpen, connectionsRefused, connectionsDropped
    case reads, writes, flushes, trims, caches, writeZeroes, blockStatuses, readBytes, writtenBytes, errors
  }
  // Written by one thread with release, read with acquire.
  nonisolated(unsafe) private let values: UnsafeMutablePointer<UInt64>

  init() {
    values = .allocate(capacity: Index.allCases.count)
    values.initialize(repeating: 0, count: Index.allCases.count)
  }
  func deallocate() { values.deallocate() }

  @inline(__always) func add(_ index: Index, _ count: UInt64 = 1) {
    elide_store_release_u64(values + index.rawValue, values[index.rawValue] &+ count)
  }
  func subtract(_ index: Index) { elide_store_release_u64(values + index.rawValue, values[index.rawValue] &- 1) }
  private func value(_ index: Index) -> UInt64 { elide_load_acquire_u64(values + index.rawValue) }

  @inline(__always) func count(_ request: NBDRequest) {
    switch request.command {
    case NBD.Command.read:
      add(.reads)
      add(.readBytes, request.length)
    case NBD.Command.write:
      add(.writes)
      add(.writtenBytes, request.length)
    case NBD.Command.flush: add(.flushes)
    case NBD.Command.trim: add(.trims)
    case NBD.Command.cache: add(.caches)
    case NBD.Command.writeZeroes: add(.writeZeroes)
    case NBD.Command.blockStatus: add(.blockStatuses)
    default: break
    }
  }

  var snapshot: NBDStatistics {
    NBDStatistics(
      connections: value(.connections), connectionsOpen: value(.connectionsOpen), connectionsRefused: value(.connectionsRefused),
      connectionsDropped: value(.connectionsDropped), reads: value(.reads), writes: value(.writes), flushes: value(.flushes),
      trims: value(.trims), caches: value(.caches), writeZeroes: value(.writeZeroes), blockStatuses: value(.blockStatuses),
      readBytes: value(.readBytes), writtenBytes: value(.writtenBytes), errors: value(.errors))
  }
}
