/// A request for `HTTPTransport`, and what may happen to it. The path and the query of the URL are escaped already.
package struct HTTPExchange: Sendable {
  package enum Method: String, Sendable { case get = "GET", put = "PUT", delete = "DELETE" }

  package var method: Method
  package var url: String
  /// Names and values, in the order in which they are sent.
  package var headers: [(name: String, value: String)] = []
  /// The body as parts that are sent one after the other, without a copy of the whole.
  package var body: BodyBytes?
  /// For the whole exchange, and for a pause in which nothing moves.
  package var timeoutNanoseconds: UInt64
  package var stallNanoseconds: UInt64
  /// Bytes of body accepted when the answer is a success; of other answers, only the first 64 KiB are kept.
  package var limit: Int
  /// Never sent a second time, not even when a kept connection turns out to be dead: for requests that are not idempotent.
  package var once = false
  /// When nothing has come back after this long, the same request is sent once more, and the first answer taken.
  package var hedgeNanoseconds: UInt64?

  package init(_ method: Method, _ url: String, timeoutNanoseconds: UInt64, stallNanoseconds: UInt64, limit: Int) {
    self.method = method
    self.url = url
    self.timeoutNanoseconds = timeoutNanoseconds
    self.stallNanoseconds = stallNanoseconds
    self.limit = limit
  }
}

/// Bytes to send: arrays, or memory that its owner keeps until the request is over.
package enum BodyBytes: @unchecked Sendable {  // the memory is only read, and outlives the call that lends it
  case parts([[UInt8]])
  case memory(UnsafeRawBufferPointer)

  package var count: Int {
    switch self {
    case .parts(let parts): parts.reduce(0) { $0 + $1.count }
    case .memory(let bytes): bytes.count
    }
  }

  /// Calls `body` with each stretch of bytes, in order.
  package func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
    switch self {
    case .parts(let parts): for part in parts { part.withUnsafeBytes(body) }
    case .memory(let bytes): body(bytes)
    }
  }
}

package struct HTTPAnswer: Sendable {
  package let status: Int
  /// By lower-case name; of a repeated one the last.
  package let headers: [String: String]
  package let body: [UInt8]
  /// From sending until the first byte of the answer.
  package let firstByteNanoseconds: UInt64
  /// Requests that went out for it: 2 when it was hedged.
  package let sent: Int
}

/// Why there is no answer.
package enum HTTPFault: Error, Equatable, Sendable, CustomStringConvertible {
  /// The name did not resolve, or nobody listens. The request has not been seen by anyone.
  case unreachable(String)
  /// The other side is not who it should be, by its certificate, or there is no certificate to check with.
  case untrusted(String)
  /// Sent, or partly; no complete answer. The server may have acted on it.
  case interrupted(String)
  /// Nothing moved for too long, or it took too long in all.
  case timedOut(String)
  /// The answer, or its headers, are larger than allowed.
  case tooLarge(String)

  package var description: String {
    switch self {
    case .unreachable(let detail), .untrusted(let detail), .interrupted(let detail), .timedOut(let detail), .tooLarge(let detail):
      detail
    }
  }
}
