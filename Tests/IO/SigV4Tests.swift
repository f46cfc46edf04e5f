import ElideIO
import Testing

/// Against what AWS publishes: the examples of its documentation, and vectors of its test suite.
@Suite struct SigV4Tests {
  private static let bucketKeys = S3Credentials(
    accessKey: "AKIAIOSFODNN7EXAMPLE", secretKey: Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
  private static let suiteKeys = S3Credentials(
    accessKey: "AKIDEXAMPLE", secretKey: Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
  private static let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  private func signature(_ authorization: String) -> Substring { authorization.split(separator: "=").last ?? "" }

  private func bucket(
    _ method: String, _ path: String, query: [(name: String, value: String)] = [], headers: [(name: String, value: String)] = [],
    payload: String = empty
  ) -> String {
    SigV4(credentials: Self.bucketKeys, region: "us-east-1").authorization(
      method: method, path: path, query: query,
      headers: headers + [
        ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-date", "20130524T000000Z"), ("x-amz-content-sha256", payload),
      ], payload: payload, date: "20130524T000000Z")
  }

  private func suite(_ method: String, query: [(name: String, value: String)] = [], headers: [(name: String, value: String)] = [])
    -> Substring
  {
    let value = SigV4(credentials: Self.suiteKeys, region: "us-east-1", service: "service").authorization(
      method: method, path: "/", query: query,
      headers: headers + [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")], payload: Self.empty,
      date: "20150830T123600Z")
    return signature(value)
  }

  @Test func aRangedGet() {
    let value = bucket("GET", "/test.txt", headers: [("range", "bytes=0-9")])
    #expect(
      value == "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        + "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        + "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
  }

  @Test func aPut() {
    let value = bucket(
      "PUT", "/test%24file.text",
      headers: [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
      payload: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072")
    #expect(signature(value) == "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
  }

  @Test func queriesAreSortedAndEscaped() {
    #expect(
      signature(bucket("GET", "/", query: [("prefix", "J"), ("max-keys", "2")]))
        == "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
    #expect(
      signature(bucket("GET", "/", query: [("lifecycle", "")]))
        == "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
    #expect(SigV4.canonicalQuery([("b", "1"), ("a", "x y/z+ü~"), ("a", "0")]) == "a=0&a=x%20y%2Fz%2B%C3%BC~&b=1")
  }

  @Test func theTestSuite() {
    #expect(suite("GET") == "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31")
    #expect(suite("POST") == "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")
    #expect(
      suite("GET", query: [("Param2", "value2"), ("Param1", "value1")])
        == "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")
    #expect(
      suite("GET", headers: [("my-header2", "\"a   b   c\""), ("my-header1", " value1")])
        == "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736")
  }

  /// RFC 4231, cases 1, 2 and 6 (a key longer than a block).
  @Test func hmac() {
    #expect(
      hmacSHA256(key: [UInt8](repeating: 0x0B, count: 20), Array("Hi There".utf8)).hex
        == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    #expect(
      hmacSHA256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8)).hex
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    #expect(
      hmacSHA256(
        key: [UInt8](repeating: 0xAA, count: 131), Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8)
      ).hex == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
  }

  @Test func dates() {
    #expect(SigV4.date(milliseconds: 1_369_353_600_000) == "20130524T000000Z")
    #expect(SigV4.date(milliseconds: 951_827_696_999) == "20000229T123456Z")
  }

  /// RFC 1321 and RFC 4648.
  @Test func md5AndBase64() {
    #expect(MD5.digest(of: .parts([])).map { hexadecimal($0) } == "d41d8cd98f00b204e9800998ecf8427e")
    #expect(
      MD5.digest(of: .parts([Array("message ".utf8), [], Array("digest".utf8)])).map { hexadecimal($0) }
        == "f96b697d7cb7938d525a2f31aaf161d0")
    for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
    {
      #expect(base64(Array(plain.utf8)) == coded)
    }
    #expect(base64([0xFB, 0xFF, 0xFE]) == "+//+")
  }

  /// A secret shows nowhere that values are printed.
  @Test func secretsDoNotShow() {
    let keys = S3Credentials(accessKey: "AK", secretKey: Secret("hush-hush"), sessionToken: Secret("hush-too"))
    var dumped = ""
    dump(keys, to: &dumped)
    for text in ["\(keys)", String(reflecting: keys), dumped, "\(Optional(keys.secretKey) as Any)"] {
      #expect(!text.contains("hush"), "\(text)")
    }
  }
}
