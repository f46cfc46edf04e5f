import ElideEvents
import ElideIO

/// An error as people and scripts meet it: what kind, which is the exit code, and a sentence that says what happened, to
/// what, and what to do next. Inside the engine errors are specific; they become one of these at its edge.
package struct ElideError: Error, Equatable, Sendable, CustomStringConvertible {
  package enum Kind: Int32, Sendable {
    /// It did not work; nothing more specific is known.
    case failed = 1
    /// What was asked for makes no sense.
    case usage = 2
    /// It may or may not have happened; asking again finds out.
    case unknown = 3
    /// Stored bytes are not what they should be.
    case fault = 4
    case notFound = 10
    /// Another process or host holds it.
    case owned = 11
    case fenced = 12
    /// The store said no, and will say so again.
    case storeRefused = 13
    /// Trying later may help.
    case tryLater = 75
    case interrupted = 130
  }

  package let kind: Kind
  package let message: String

  package init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  /// The process's exit code.
  package var exitCode: Int32 { kind.rawValue }
  package var description: String { message }
}

extension ElideError {
  /// A system error while doing something to something ("open /x/y").
  package init(_ errno: Errno, doing: String) {
    let kind: Kind = errno == .notFound ? .notFound : errno.isWantOfSpace ? .tryLater : .failed
    self.init(kind, "\(doing): \(errno)")
  }

  package init(_ error: StoreError) {
    switch error {
    case .notFound(let key): self.init(.notFound, "the store has no object \(key)")
    case .unknown(let key, let detail): self.init(.tryLater, "the store did not answer for \(key): \(detail); try again")
    case .refused(let key, let detail): self.init(.storeRefused, "the store refused \(key): \(detail)")
    case .corrupt(let key, let detail): self.init(.fault, "the store's object \(key) is damaged: \(detail)")
    }
  }

  package init(_ error: JournalError, _ volume: ULID) {
    switch error {
    case .damaged(let detail): self.init(.fault, "the journal of volume \(volume) is damaged: \(detail)")
    case .missingBlob(let digest): self.init(.fault, "the journal of volume \(volume) lacks the blob \(digest)")
    case .noSpace(let detail): self.init(.tryLater, "the disk of the journal of volume \(volume) is full: \(detail)")
    case .unknown(let detail), .halted(let detail):
      self.init(.unknown, "the journal of volume \(volume) stopped: \(detail); open the volume again to find out")
    case .refused(let detail): self.init(.failed, "the journal of volume \(volume): \(detail)")
    }
  }

  package init(_ error: SegmentError) {
    switch error {
    case .store(let e): self.init(e)
    case .damaged(let object, let detail): self.init(.fault, "\(object): \(detail)")
    case .disk(let errno): self.init(errno.isWantOfSpace ? .tryLater : .failed, "the cache: \(errno)")
    case .unknownSegment(let n): self.init(.fault, "segment \(n) is in no table")
    }
  }

  package init(_ error: WALError) {
    switch error {
    case .system: self.init(.failed, error.description)
    case .missing, .wrongFile, .corrupt: self.init(.fault, error.description)
    }
  }

  package init(_ error: ReplayError, _ volume: ULID) {
    switch error {
    case .store(let e): self.init(e, volume)
    default: self.init(.fault, "the journal of volume \(volume): \(error)")
    }
  }
}
