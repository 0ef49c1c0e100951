import Foundation
import GeePSCore
import GeePSMemory
import Testing

@testable import GeePSCLI

@Suite struct WorkloadTests {
    private static let good = """
        {"schema":"geeps.workload/1","name":"small","source":"a test","samples_per_clock":8,
        "parameters":[{"name":"fc1","bytes":4096},{"name":"fc2","bytes":1000}],
        "locals":[{"name":"input","bytes":64}],
        "phases":[{"name":"up","nanoseconds":1000},{"name":"down","nanoseconds":2000}],
        "accesses":["local 0","read 0","read 1","end_read 0","end_read 1","end_local 0 keep",
        "local 0 fetch","update 1","update 0","end_update 1","end_update 0","end_local 0","clock"]}
        """

    private func read(_ text: String) throws -> Workload {
        let path = "/tmp/geeps-workload-\(UInt64.random(in: .min ... .max)).json"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try Workload(path: path)
    }

    static func paper(_ name: String) throws -> Workload {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        return try Workload(path: "/\(root)/Workloads/\(name).json")
    }

    @Test func aFileIsReadBack() throws {
        let workload = try read(Self.good)
        #expect(workload.parameterBytes == 5096)
        #expect(workload.computeNanoseconds == 3000)
        #expect(try read(workload.text) == workload)
    }

    @Test(arguments: [
        ("\"update 1\",\"update 0\"", "\"update 1\",\"updates 0\"", "expected an access such as"),
        ("\"end_read 1\"", "\"end_read 2\"", "expected a number below 2"),
        ("\"read 1\",", "", "gives back what nobody holds"),
        ("end_local 0 keep", "end_local 0 fetch", "expected an access such as"),
        (
            "{\"name\":\"down\",\"nanoseconds\":2000}", "{\"name\":\"down\"}",
            "missing key 'nanoseconds'"
        ),
        (",{\"name\":\"down\",\"nanoseconds\":2000}", "", "found 1 phases, expected 2"),
        ("\"bytes\":64", "\"bytes\":0", "expected an integer"),
        ("workload/1", "workload/2", "expected one of geeps.workload/1"),
        ("\"samples_per_clock\":8", "\"samples_per_clock\":8,\"more\":1", "unknown key 'more'"),
    ])
    func aWrongFileIsRefused(old: String, new: String, message: String) throws {
        let text = Self.good.replacingOccurrences(of: old, with: new)
        #expect(text != Self.good)
        let error = try #require(throws: CLIError.self) { _ = try read(text) }
        #expect(error.message.contains(message), "\(error.message)")
    }

    @Test func adamLikeIsTheOneOfTheMemoryBenchmark() throws {
        let file = try Self.paper("adamlike")
        let (problem, times) = EmulatedWorkload.adamLike.iteration
        #expect(file.accesses == problem.accesses)
        #expect(file.locals.map(\.byteCount) == problem.locals.map(\.byteCount))
        #expect(zip(file.phases, times).allSatisfy { abs(Int($0.nanoseconds) - Int($1)) <= 1 })
    }

    /// Section 5.1 of the paper: 470 MB (with a larger fc6) and 57 MB, padding included.
    @Test(arguments: [("adamlike", 415..<475, 2.15), ("googlenet", 53..<58, 0.541)])
    func thePapersWorkloadsHaveItsSizes(name: String, megabytes: Range<Int>, seconds: Double) throws
    {
        let workload = try Self.paper(name)
        #expect(megabytes.contains(workload.parameterBytes / 1_000_000))
        #expect(abs(Double(workload.computeNanoseconds) / 1e9 - seconds) < 1e-6)
    }

    @Test func computeStandsBetweenAcquiresAndReleases() throws {
        let workload = try read(Self.good)
        #expect(
            workload.operations(hasLocals: false) == [
                .access(Access(.read, batch: 0)), .access(Access(.read, batch: 1)), .compute(0),
                .access(Access(.endRead, batch: 0)), .access(Access(.endRead, batch: 1)),
                .access(Access(.update, batch: 1)), .access(Access(.update, batch: 0)),
                .compute(1), .access(Access(.endUpdate, batch: 1)),
                .access(Access(.endUpdate, batch: 0)), .access(Access(.clock)),
            ])
        #expect(workload.operations(hasLocals: true).count == 15)
    }

    @Test func layersOfATableFollowEachOther() throws {
        let workload = try read(Self.good)
        let apart = TableGrouping(workload.parameters, layersPerTable: 1)
        #expect(apart.tables.map(\.rowCount) == [8, 2])
        let together = TableGrouping(workload.parameters, layersPerTable: nil)
        #expect(together.tables.map(\.rowCount) == [10])
        #expect(together.places.map(\.rows) == [0..<8, 8..<10])
    }
}
