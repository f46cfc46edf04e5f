import ArgumentParser
import ElideEngine
import ElideIO

/// The options of `serve` that are about clients and their connections.
struct TransportOptions: ParsableArguments {
  enum TLSMode: String, ExpressibleByArgument, CaseIterable { case off, allow, require }

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Offer TLS with server-cert.pem, server-key.pem (and ca-cert.pem) of this directory.", valueName: "directory"))
  var tlsCertificates: String?
  @Option(name: .long, help: ArgumentHelp("Offer TLS with the keys of this file of lines USER:HEX.", valueName: "file"))
  var tlsPsk: String?
  @Option(
    name: .long,
    help: ArgumentHelp("Whether clients may (allow) or must (require) use TLS.", valueName: "off|allow|require"))
  var tls: TLSMode?
  @Flag(name: .long, help: "Refuse clients that show no certificate of the authority in ca-cert.pem.") var tlsVerifyPeer = false

  func validate() throws {
    let isOffered = tlsCertificates != nil || tlsPsk != nil
    if let tls, tls != .off, !isOffered {
      throw ValidationError("--tls \(tls.rawValue) needs --tls-certificates or --tls-psk.")
    }
    if tlsVerifyPeer && tlsCertificates == nil { throw ValidationError("--tls-verify-peer needs --tls-certificates.") }
  }

  /// Where TLS is offered, it is required unless something else is said.
  func apply(to configuration: inout NBDServerConfiguration) throws(ElideError) {
    let mode = tls ?? (tlsCertificates != nil || tlsPsk != nil ? .require : .off)
    if mode == .off { return }
    do throws(TLSError) {
      configuration.tls = try TLSContext(certificates: tlsCertificates, preSharedKeys: tlsPsk, verifyPeer: tlsVerifyPeer)
    } catch { throw ElideError(.failed, error.description) }
    configuration.requiresTLS = mode == .require
  }
}
