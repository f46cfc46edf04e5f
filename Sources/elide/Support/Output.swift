import Foundation
import Glibc

/// What commands print: tables for people, JSON for programs. Results go to standard output, everything else (progress,
/// notes, errors) to standard error.
enum Output {
  static let errorIsTerminal = isatty(2) != 0

  static func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

  /// Columns padded to their widest cell, two blanks between, no trailing blanks; numbers should come formatted.
  static func table(_ header: [String], _ rows: [[String]]) {
    var widths = header.map(\.count)
    for row in rows { for (i, cell) in row.enumerated() { widths[i] = max(widths[i], cell.count) } }
    for row in [header] + rows {
      var line = ""
      for (i, cell) in row.enumerated() {
        line += cell
        if i < row.count - 1 { line += String(repeating: " ", count: widths[i] - cell.count + 2) }
      }
      print(line)
    }
  }

  /// "name: value" lines with the values in one column.
  static func fields(_ fields: [(String, String)]) {
    let width = fields.map(\.0.count).max() ?? 0
    for (name, value) in fields { print(name + ":" + String(repeating: " ", count: width - name.count + 1) + value) }
  }

  /// One JSON document with sorted keys, so that equal states print equal bytes.
  static func json(_ value: some Encodable, pretty: Bool = true) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting =
      pretty ? [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes] : [.sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
  }
}

/// A progress line on standard error: percent, rate, time left. Silent when that is not a terminal.
final class ProgressLine {
  private let label: String
  private let total: UInt64
  private let start = ContinuousClock.now
  private var last = ContinuousClock.now
  private var shown = false

  init(_ label: String, total: UInt64) {
    self.label = label
    self.total = max(total, 1)
  }

  func update(_ done: UInt64) {
    guard Output.errorIsTerminal else { return }
    let now = ContinuousClock.now
    if shown && now - last < .milliseconds(100) && done < total { return }
    last = now
    shown = true
    let seconds = max(0.001, Double((now - start).components.seconds) + Double((now - start).components.attoseconds) / 1e18)
    let rate = Double(done) / seconds
    let left = rate > 0 ? Int(Double(total - min(done, total)) / rate) : 0
    let percent = Int(100 * Double(min(done, total)) / Double(total))
    let text =
      "\r\(label)  \(percent)%  \(ByteSize.text(done)) of \(ByteSize.text(total))  \(ByteSize.text(UInt64(rate)))/s  "
      + "\(left) s left\u{1B}[K"
    FileHandle.standardError.write(Data(text.utf8))
  }

  func end() {
    if shown { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
  }
}
