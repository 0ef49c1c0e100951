import Foundation
import GeePS
import Testing

@Suite struct ReadmeTests {
    /// The README's library example, line by line; `theReadmeShowsWhatIsTestedHere` compares them.
    @Test func theExampleReachesItsTarget() throws {
        // README begin
        // One table of 1,000 rows of 128 float32 values, kept and updated by this process itself.
        let configuration = NodeConfiguration(
            tables: [TableLayout(name: "weights", rowCount: 1000)],
            optimizer: OptimizerConfiguration(
                rule: .sgd(momentum: 0.9, dampening: 0, nesterov: false), learningRate: 0.01))
        let node = try Node.join(configuration, device: HostDevice())
        let client = node.client

        let zeros = [Float](repeating: 0, count: 1000 * 128)
        try zeros.withUnsafeBufferPointer { try client.initialise(0, values: $0) }
        let rows = try client.batch(of: 0, rows: [7, 3, 999])  // any rows, in any order

        for _ in 0..<500 {
            let values = try client.read(rows)  // waits until the rows are fresh enough
            let gradient = try client.update(rows)  // room for the gradient of (x - 3)^2 / 2
            for i in 0..<values.count { gradient.values[i] = values.values[i] - 3 }
            gradient.finish()  // handed over; sent while this thread goes on
            client.clock()  // ends the iteration; never waits
        }
        let result = try client.read(rows)
        print("row 7 begins with", result.values[0])  // 3.0, give or take a rounding
        // README end
        #expect(result.count == 3 * 128)
        for i in 0..<result.count { #expect(abs(result.values[i] - 3) < 1e-4) }
        _ = consume result
        #expect(node.leave(within: .seconds(10)))
    }

    @Test func theReadmeShowsWhatIsTestedHere() throws {
        let source = try String(contentsOfFile: #filePath, encoding: .utf8)
        let tested = lines(of: source, from: "// README begin", to: "// README end")
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let readme = try String(contentsOf: root.appending(path: "README.md"), encoding: .utf8)
        let shown = lines(of: readme, from: "```swift", to: "```")
        #expect(shown.first == "import GeePS")
        #expect(Array(shown.dropFirst()) == tested)
    }

    /// The lines between two marks, without margins and empty lines.
    private func lines(of text: String, from begin: String, to end: String) -> [String] {
        let lines = text.split(separator: "\n").map {
            $0.trimmingCharacters(in: .whitespaces)
        }
        guard let first = lines.firstIndex(of: begin) else { return [] }
        return Array(lines[(first + 1)...].prefix { $0 != end }.filter { !$0.isEmpty })
    }
}
