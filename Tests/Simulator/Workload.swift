import ElideIO
import Glibc

/// One request of a guest, and the bytes it writes.
package struct GuestRequest: Sendable {
  package var operation: BlockRequest.Operation
  package var offset: Int
  package var length: Int
  package var forceUnitAccess = false
  package var noHole = false
  package var content = GuestContent.unique(0)

  package init(_ operation: BlockRequest.Operation, offset: Int = 0, length: Int = 0) {
    self.operation = operation
    self.offset = offset
    self.length = length
  }
}

/// What a write writes. Repeated contents and zeros are as frequent as new bytes: otherwise duplicates, partial death and
/// the splitting of runs are never met.
package enum GuestContent: Sendable, Equatable {
  case zeros
  /// One of a few blocks that are written again and again, the same in each block of the write.
  case repeated(UInt8)
  /// Bytes that no other write has.
  case unique(UInt64)
  /// A new byte here and there in zeros: compresses well.
  case sparse(UInt64)

  package func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    guard let base = buffer.baseAddress else { return }
    switch self {
    case .zeros: memset(base, 0, buffer.count)
    case .repeated(let v):
      for i in buffer.indices { buffer[i] = v &+ UInt8(truncatingIfNeeded: (i & 0xFFF) >> 4) | 1 }
    case .unique(let seed):
      var random = SeededRandom(seed: seed)
      var i = 0
      while i + 8 <= buffer.count {
        buffer.storeBytes(of: random.next(), toByteOffset: i, as: UInt64.self)
        i += 8
      }
      while i < buffer.count {
        buffer[i] = UInt8(truncatingIfNeeded: random.next())
        i += 1
      }
    case .sparse(let seed):
      memset(base, 0, buffer.count)
      var random = SeededRandom(seed: seed)
      for i in stride(from: 0, to: buffer.count, by: 512) { buffer[i] = UInt8(truncatingIfNeeded: random.next()) | 1 }
    }
  }
}

/// Draws requests from a seed.
package struct Workload: Sendable {
  package var size: Int
  package var random: SeededRandom
  /// Blocks of the longest write.
  package var longest = 12
  /// Writes cover whole blocks. Where many fail in a row, what each partial one may have been merged into doubles with each.
  package var wholeBlocks = false
  private var stamp: UInt64 = 0

  package init(size: Int, seed: UInt64) {
    self.size = size
    random = SeededRandom(seed: seed ^ 0x3014)
  }

  package mutating func next() -> GuestRequest {
    stamp += 1
    switch random.below(100) {
    case 0..<44: return write(aligned: true)
    case 44..<56: return write(aligned: wholeBlocks)
    case 56..<62: return extent(.writeZeroes, aligned: random.chance(3, in: 4) || wholeBlocks)
    case 62..<69: return extent(.trim, aligned: true)
    case 69..<79: return GuestRequest(.flush)
    default: return extent(.read, aligned: random.chance(3, in: 4))
    }
  }

  private mutating func write(aligned: Bool) -> GuestRequest {
    var r = extent(.write, aligned: aligned)
    r.forceUnitAccess = random.chance(1, in: 12)
    switch random.below(10) {
    case 0: r.content = .zeros
    case 1...3: r.content = .repeated(UInt8(random.below(4) * 32))
    case 4: r.content = .sparse(random.next())
    default: r.content = .unique(random.next())
    }
    return r
  }

  /// A hot part of the device is hit most of the time, so that blocks are overwritten in every state.
  private mutating func extent(_ operation: BlockRequest.Operation, aligned: Bool) -> GuestRequest {
    let unit = aligned ? 4096 : random.chance(1, in: 2) ? 512 : 1
    let reach = random.chance(2, in: 3) ? max(unit, size / 6) : size
    let longest = random.chance(1, in: 4) ? longest * 4096 : 2 * 4096
    let units = reach / unit
    let start = random.below(units) * unit
    let most = max(1, min(size - start, longest) / unit)
    var r = GuestRequest(operation, offset: start, length: (1 + random.below(most)) * unit)
    if operation == .writeZeroes {
      r.noHole = random.chance(1, in: 3)
      r.forceUnitAccess = random.chance(1, in: 12)
    }
    return r
  }
}
