import ElideIO
import Glibc

/// Who may do what on the coordinator's socket, by who is at the other end: root, the user that the coordinator runs as and the
/// members of its group may act; everybody else may read, if the operator allows it.
struct ControlAccess: Equatable, Sendable {
  enum Readers: String, CaseIterable, Sendable { case group, all }
  enum Right: Equatable, Sendable { case none, read, act }

  var user: UInt32
  var group: UInt32
  var readers: Readers

  /// That of this process.
  init(readers: Readers) { (user, group, self.readers) = (geteuid(), getegid(), readers) }
  init(user: UInt32, group: UInt32, readers: Readers) { (self.user, self.group, self.readers) = (user, group, readers) }

  func right(of peer: PeerCredentials?) -> Right {
    guard let peer else { return .none }
    if peer.user == 0 || peer.user == user { return .act }
    // The group of a coordinator that runs as root is root's, which is no one's by accident.
    if peer.group == group || peer.groups.contains(group) { return .act }
    return readers == .all ? .read : .none
  }
}
