import CElide
import Glibc

// Large reads out of files, without a copy of the server's own:
//
//   device.extents ─▶ header ─▶ sendfile for long extents, sendmsg out of the mapping for short ones ─▶ next request
//                                  └─ the socket is full: what is left is copied, and goes the way of all replies
//
// From Linux 6.5 on a Unix socket takes a file's pages as they are, and before it copies them; a TCP socket always took them. So
// the client may read from a page long after the reply was sent, which is why a device promises not to write over it.
extension Connection {
  /// Reads of at least so many bytes are sent in place. What is smaller is copied as fast as the way there is found, and shares
  /// a system call with its neighbours.
  static let inPlaceFrom: UInt64 = 64 << 10
  static let mostExtents = 128

  /// Answers the read in `slot`, which has its buffer, out of the device's files. False, and nothing has happened, when that is
  /// not possible, or earlier replies have not left yet.
  mutating func sendInPlace(_ slot: Int, _ loop: ServerLoop) -> Bool {
    let s = slab.slots[slot]
    guard s.length >= Self.inPlaceFrom, tls == nil, s.zeroes != .some, let entry, let buffer = s.buffer.base else { return false }
    if hasOutput || !completed.isEmpty { _ = flush(loop) }
    guard phase == .transmission, !hasOutput, completed.isEmpty else { return false }
    let count = entry.device.extents(offset: s.offset, length: s.length, into: loop.extents, limit: Self.mostExtents)
    loop.touch(entry)
    guard count > 0 else { return false }
    loop.answered &+= 1
    if transmission.structuredReplies {
      dataHeader(slot, 0, UInt32(truncatingIfNeeded: s.length))
    } else {
      simpleHeader(s.cookie, 0)
    }
    let extents = UnsafeMutableBufferPointer(start: loop.extents, count: count)
    var sent = 0
    switch outbox.send(to: descriptor) {
    case .empty: sent = sendExtents(extents, loop)
    case .blocked: break
    case .broken: sent = -1
    }
    let left = Int(s.length) &- sent
    if sent < 0 || !copy(extents, from: sent, to: buffer + sent) {
      phase = .broken
    } else if left > 0 {
      slab.slots[slot].end = outbox.append(buffer + sent, left)
      slab.push(slot, to: &sending)
      return true
    }
    giveBack(slot, loop)
    slab.release(slot)
    return true
  }

  /// How many bytes the socket took; -1 when it is of no use any more, or a file could not be read.
  private func sendExtents(_ extents: UnsafeMutableBufferPointer<FileExtent>, _ loop: ServerLoop) -> Int {
    var sent = 0
    var next = 0
    while next < extents.count {
      let first = next
      var wanted = extents[first].length
      next += 1
      let taken: Int
      if extents[first].isShared {
        taken = send(extents[first])
      } else {
        loop.vectors[0] = extents[first].vector
        while next < extents.count && !extents[next].isShared {
          loop.vectors[next - first] = extents[next].vector
          wanted += extents[next].length
          next += 1
        }
        taken = send(loop.vectors, next - first)
      }
      if taken < 0 { return errno == EAGAIN ? sent : -1 }
      sent += taken
      if taken < wanted { return sent }
    }
    return sent
  }

  /// Until the socket takes no more.
  private func send(_ extent: FileExtent) -> Int {
    var sent = 0
    while sent < extent.length {
      let n = Int(elide_sendfile(descriptor, extent.descriptor, extent.offset &+ UInt64(sent), extent.length - sent))
      if n < 0 && errno == EINTR { continue }
      // A file that ends early was cut off by somebody.
      if n == 0 { errno = EIO }
      if n <= 0 { return n < 0 && errno == EAGAIN && sent > 0 ? sent : -1 }
      sent += n
    }
    return sent
  }

  private func send(_ vectors: UnsafeMutablePointer<iovec>, _ count: Int) -> Int {
    var message = msghdr()
    message.msg_iov = vectors
    message.msg_iovlen = count
    while true {
      let n = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      if n >= 0 || errno != EINTR { return n }
    }
  }

  /// Copies what is behind the first `skipped` bytes; false when a file could not be read.
  private func copy(
    _ extents: UnsafeMutableBufferPointer<FileExtent>, from skipped: Int, to target: UnsafeMutableRawPointer
  ) -> Bool {
    var skip = skipped
    var at = target
    for extent in extents {
      if skip >= extent.length {
        skip -= extent.length
        continue
      }
      if elide_copy_mapped(at, extent.address + skip, extent.length - skip) != 0 { return false }
      at += extent.length - skip
      skip = 0
    }
    return true
  }
}

extension FileExtent {
  fileprivate var vector: iovec { iovec(iov_base: UnsafeMutableRawPointer(mutating: address), iov_len: length) }
}
