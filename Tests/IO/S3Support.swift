import ElideIO
import Synchronization

/// A fake server, and a store on it that pauses only on paper.
final class S3Bench: Sendable {
  let server: FakeHTTPServer
  let store: S3Store
  private let pauser: Pauser

  /// Pauses only on paper, and a clock that believes in them.
  final class Pauser: Clock {
    let all = Mutex([UInt64]())
    let clock: any Clock
    init(_ clock: any Clock) { self.clock = clock }
    func wallMilliseconds() -> UInt64 { clock.wallMilliseconds() }
    func monotonicNanoseconds() -> UInt64 { clock.monotonicNanoseconds() + all.withLock { $0.reduce(0, +) } }
  }

  /// Pauses that the store would have made, in nanoseconds.
  var pauses: [UInt64] { pauser.all.withLock { $0 } }

  static let variables = ["AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"]

  /// `wait`: for a whole request, and for one in which nothing moves.
  init(
    variables: [String: String] = S3Bench.variables, prefix: String = "", hedge: String = "off",
    waitMilliseconds: UInt64 = 20_000,
    maxObjectBytes: Int = 1 << 20, files: any Files = HostFiles(), clock: any Clock = HostClock(),
    _ react: @escaping @Sendable (Int, FakeHTTPServer.Request) -> FakeHTTPServer.Reaction
  ) throws {
    server = try FakeHTTPServer(react)
    let environment = AWSEnvironment(files: files) { variables[$0] }
    var settings = try S3Settings(
      bucket: "bkt", prefix: prefix, parameters: ["endpoint": server.endpoint, "hedge": hedge], environment: environment)
    settings.patience.requestNanoseconds = waitMilliseconds * 1_000_000
    settings.patience.leastBytesPerSecond = 1 << 40
    settings.patience.stallNanoseconds = waitMilliseconds * 500_000
    settings.patience.maxObjectBytes = maxObjectBytes
    let pauser = Pauser(clock)
    self.pauser = pauser
    let world = World(clock: pauser, random: SeededRandom(1), files: files)
    store = try S3Store(settings, environment: environment, world: world) { time in pauser.all.withLock { $0.append(time) } }
  }

  deinit { server.stop() }

  /// What S3 says in an error.
  static func error(_ status: Int, _ code: String, _ more: String = "", headers: [String: String] = [:])
    -> FakeHTTPServer.Reaction
  {
    let text = "<?xml version=\"1.0\"?><Error><Code>\(code)</Code><Message>about &lt;it&gt;</Message>\(more)</Error>"
    return .answer(status, headers, Array(text.utf8))
  }

  static func tag(_ bytes: [UInt8]) -> String { "\"\(MD5.digest(of: .parts([bytes])).map { hexadecimal($0) } ?? "")\"" }
}

/// What a call throws; nil when it returns.
func storeError(_ body: () throws(StoreError) -> Void) -> StoreError? {
  do throws(StoreError) {
    try body()
    return nil
  } catch { return error }
}
