import Foundation
import Testing

@testable import GeePSCLI
@testable import GeePSDevice

@Suite struct ChromeTraceTests {
    /// The events that are written for `spans`, as a program reads them.
    private func events(
        _ spans: [Timeline.Span], processName: String = "geeps"
    ) throws -> [[String: Any]] {
        let path = "/tmp/geeps-trace-\(UInt64.random(in: .min ... .max)).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try ChromeTrace.write(spans, processName: processName, processID: 7, to: path)
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let root = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(root["displayTimeUnit"] as? String == "ms")
        return try #require(root["traceEvents"] as? [[String: Any]])
    }

    private func span(
        _ track: String, _ label: String, _ start: UInt64, _ end: UInt64, bytes: Int = 0
    ) -> Timeline.Span {
        Timeline.Span(
            track: track, operation: "copy", label: label, startNanoseconds: start,
            endNanoseconds: end, byteCount: bytes)
    }

    @Test func timesAreMicrosecondsFromTheEarliestSpan() throws {
        let events = try events([
            span("out", "fc1", 10_001_500, 10_002_001), span("in", "", 10_000_000, 12_345_678),
        ]).filter { $0["ph"] as? String == "X" }
        #expect(events.map { $0["ts"] as? Double } == [1.5, 0])
        #expect(events.map { $0["dur"] as? Double } == [0.501, 2345.678])
        #expect(events.map { $0["name"] as? String } == ["fc1", "copy"])
        #expect(events.map { $0["cat"] as? String } == ["copy", "copy"])
    }

    @Test func aTrackIsAThreadWithAName() throws {
        let events = try events([
            span("compute", "a", 0, 1), span("in", "b", 0, 1), span("compute", "c", 2, 3),
        ])
        let names = events.filter { $0["name"] as? String == "thread_name" }
        #expect(names.map { ($0["args"] as? [String: String])?["name"] } == ["compute", "in"])
        #expect(names.map { $0["tid"] as? Int } == [1, 2])
        let spans = events.filter { $0["ph"] as? String == "X" }
        #expect(spans.map { $0["tid"] as? Int } == [1, 2, 1])
        #expect(events.allSatisfy { $0["pid"] as? Int == 7 })
    }

    @Test func onlyCopiesHaveBytes() throws {
        let events = try events([span("in", "a", 0, 1, bytes: 4096), span("in", "b", 1, 2)])
            .filter { $0["ph"] as? String == "X" }
        #expect((events[0]["args"] as? [String: Int])?["bytes"] == 4096)
        #expect(events[1]["args"] == nil)
    }

    @Test(arguments: ["a\"b\\c\n\t\u{1}", "größe → 7", "</script>"])
    func namesAreEscaped(name: String) throws {
        let events = try events([span(name, name, 0, 1)], processName: name)
        #expect((events[0]["args"] as? [String: String])?["name"] == name)
        #expect((events[1]["args"] as? [String: String])?["name"] == name)
        #expect(events[2]["name"] as? String == name)
    }

    @Test func noSpansAreADocumentToo() throws {
        #expect(try events([]).count == 1)
    }

    @Test func aSpanThatEndsBeforeItBeginsHasNoLength() throws {
        #expect(try events([span("in", "a", 5, 3)])[2]["dur"] as? Double == 0)
    }

    @Test func whatCannotBeWrittenIsNamed() {
        let error = #expect(throws: CLIError.self) {
            try ChromeTrace.write([], processName: "", processID: 0, to: "/nowhere/trace.json")
        }
        #expect(error?.code == .cannotOpen)
        #expect(error?.message.contains("/nowhere/trace.json") == true)
    }

    @Test func aFullDiskIsAnError() {
        let spans = (0..<10_000).map { span("in", "a", UInt64($0), UInt64($0) + 1) }
        let error = #expect(throws: CLIError.self) {
            try ChromeTrace.write(spans, processName: "", processID: 0, to: "/dev/full")
        }
        #expect(error?.code == .inputOutput)
    }
}
