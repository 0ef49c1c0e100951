import Foundation
import Testing

@Suite struct SecurityPageTests {
    /// SECURITY.md names the tests of attacks; one that was renamed or removed is missed here.
    @Test func theTestsThatThePageNamesExist() throws {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let page = try String(
            contentsOf: tests.deletingLastPathComponent().appending(path: "SECURITY.md"),
            encoding: .utf8)
        let named = page.matches(of: /`(\w+Tests)\.(\w+)`/).map {
            (suite: String($0.1), test: String($0.2))
        }
        #expect(named.count >= 20)
        let sources = try #require(
            FileManager.default.enumerator(at: tests, includingPropertiesForKeys: nil)
        )
        .compactMap { $0 as? URL }.filter { $0.pathExtension == "swift" }
        .map { try String(contentsOf: $0, encoding: .utf8) }
        for (suite, test) in named {
            #expect(
                sources.contains {
                    $0.contains("struct \(suite) ") && $0.contains("func \(test)(")
                }, "\(suite).\(test)")
        }
    }
}
