// swift-tools-version:6.1
import PackageDescription

// Dependencies point one way: elide → ElideEngine → ElideProjections → ElideEvents → ElideIO.
// Tests/Tidy holds the packages and the sources to it.

let strict: [SwiftSetting] = [.enableUpcomingFeature("ExistentialAny")]

let package = Package(
  name: "elide",
  products: [.executable(name: "elide", targets: ["elide"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: [
    .systemLibrary(name: "CLMDB", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CURing", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
    .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .target(name: "CElide"),

    .target(
      name: "ElideIO",
      dependencies: ["CElide", "CLMDB", "CZstd", "CURing", "CCurl", "COpenSSL"],
      swiftSettings: strict),
    .target(
      name: "ElideEvents",
      dependencies: ["ElideIO", "CElide", .product(name: "TOMLKit", package: "TOMLKit")],
      swiftSettings: strict),
    .target(name: "ElideProjections", dependencies: ["ElideEvents", "CElide"], swiftSettings: strict),
    .target(
      name: "ElideEngine",
      dependencies: [
        "ElideProjections", "ElideEvents", "ElideIO", "CElide", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "elide",
      dependencies: [
        "ElideEngine", "ElideProjections", "ElideEvents", "ElideIO",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "TOMLKit", package: "TOMLKit"),
      ],
      swiftSettings: strict),

    // The simulated world: a second implementation of files, store, journal, clock and scheduler.
    .target(
      name: "Simulator", dependencies: ["ElideEngine", "ElideProjections", "ElideEvents", "ElideIO", "CElide"],
      path: "Tests/Simulator", swiftSettings: strict),
    // A block device in memory, and a server of it for other people's NBD clients.
    .target(name: "MemoryDevice", dependencies: ["ElideIO"], path: "Tests/MemoryDevice", swiftSettings: strict),
    .executableTarget(
      name: "nbd-memory", dependencies: ["MemoryDevice", "ElideIO"], path: "Tests/NBDMemory", swiftSettings: strict),
    .testTarget(
      name: "IOTests", dependencies: ["ElideIO", "CElide", "COpenSSL", "MemoryDevice"], path: "Tests/IO", swiftSettings: strict),
    .testTarget(name: "EventsTests", dependencies: ["ElideEvents", "ElideIO"], path: "Tests/Events", swiftSettings: strict),
    .testTarget(
      name: "ProjectionsTests", dependencies: ["ElideProjections", "ElideEvents", "ElideIO"], path: "Tests/Projections",
      swiftSettings: strict),
    .testTarget(
      name: "EngineTests", dependencies: ["ElideEngine", "ElideProjections", "ElideEvents", "ElideIO", "Simulator"],
      path: "Tests/Engine", swiftSettings: strict),
    .testTarget(
      name: "Replay", dependencies: ["ElideEngine", "ElideProjections", "ElideEvents", "ElideIO", "Simulator"],
      path: "Tests/Replay", swiftSettings: strict),
    .testTarget(
      name: "Proptest", dependencies: ["ElideEngine", "ElideProjections", "ElideEvents", "ElideIO", "Simulator"],
      path: "Tests/Proptest", swiftSettings: strict),
    // What hostile bytes are fed to; the fuzzers search for more of them.
    .target(
      name: "FuzzTargets", dependencies: ["Simulator", "ElideEngine", "ElideProjections", "ElideEvents", "ElideIO", "CElide"],
      path: "Tests/Fuzz/Targets", swiftSettings: strict),
    .testTarget(name: "FuzzCorpus", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Replay", swiftSettings: strict),
    .testTarget(name: "Tidy", path: "Tests/Tidy", swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// The driver needs the fuzzer's run-time library, which only a build with `-sanitize=fuzzer` links (scripts/fuzz.sh).
if Context.environment["ELIDE_FUZZ"] != nil {
  package.targets.append(
    .executableTarget(name: "elide-fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Driver", swiftSettings: strict))
}
