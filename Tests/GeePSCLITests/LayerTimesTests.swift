import Foundation
import GeePSNN
import Testing

@testable import GeePSCLI

@Suite struct LayerTimesTests {
    private static let good = """
        {"schema":"geeps.layers/1","fingerprint":"0123456789abcdef","batch_size":32,"threads":2,\
        "cpu":"A \\"fast\\" one: 3 GHz","steps":[{"name":"load","nanoseconds":0},\
        {"name":"conv1 forward","nanoseconds":12345}]}
        """

    private func withFile<R>(_ bytes: Data, _ use: (String) throws -> R) throws -> R {
        let path = "/tmp/geeps-layers-\(UInt64.random(in: .min ... .max)).json"
        try bytes.write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try use(path)
    }

    private func read(_ text: String) throws -> LayerTimes {
        try withFile(Data(text.utf8)) { try LayerTimes(path: $0) }
    }

    private func network(batchSize: Int = 8, hidden: [Int] = [12]) throws -> Network {
        try Network(
            .mlp(hidden: hidden), input: Shape(channels: 16), batchSize: batchSize)
    }

    private func times(of network: Network) -> LayerTimes {
        LayerTimes(
            fingerprint: LayerTimes.fingerprint(of: network), batchSize: network.batchSize,
            threads: 1, cpu: "a \"cpu\"\\\n: {größe}",
            steps: network.steps.enumerated().map { index, step in
                .init(name: network.name(of: step), nanoseconds: UInt64(index * 1000))
            })
    }

    @Test func aFileIsReadBack() throws {
        let times = times(of: try network())
        let path = "/tmp/geeps-layers-\(UInt64.random(in: .min ... .max)).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try times.write(to: path)
        #expect(try LayerTimes(path: path) == times)
    }

    @Test func aFileOfOursIsJSON() throws {
        let text = times(of: try network()).json.text
        let root = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        #expect(root?["schema"] as? String == "geeps.layers/1")
    }

    @Test func theExampleIsRead() throws {
        let times = try read(Self.good)
        #expect(times.cpu == "A \"fast\" one: 3 GHz")
        #expect(times.steps.map(\.nanoseconds) == [0, 12345])
    }

    @Test func timesAreInTheOrderOfTheSteps() throws {
        let network = try network()
        let times = times(of: network)
        #expect(times.matches(network))
        #expect(
            times.nanoseconds(for: network) == network.steps.indices.map { UInt64($0 * 1000) })
    }

    @Test func anotherNetworkDoesNotMatch() throws {
        let times = times(of: try network())
        #expect(times.matches(try network()))
        #expect(!times.matches(try network(batchSize: 16)))
        #expect(!times.matches(try network(hidden: [13])))
        #expect(!times.matches(try network(hidden: [12, 12])))
        var short = times
        short.steps.removeLast()
        #expect(!short.matches(try network()))
    }

    @Test func theFingerprintIsTheSameInEveryProcess() throws {
        #expect(LayerTimes.fingerprint(of: try network()).count == 16)
        #expect(
            LayerTimes.fingerprint(of: try network()) == LayerTimes.fingerprint(of: try network()))
    }

    @Test(arguments: [
        ("\"schema\":\"geeps.layers/1\"", "\"schema\":\"geeps.plan/1\"", "geeps.layers/1"),
        ("\"schema\":\"geeps.layers/1\",", "", "missing key 'schema'"),
        ("\"fingerprint\":\"0123456789abcdef\",", "", "missing key 'fingerprint'"),
        ("\"batch_size\":32,", "", "missing key 'batch_size'"),
        (":32", ":-32", "batch_size"), (":32", ":\"32\"", "batch_size"),
        (":32", ":3.5", "batch_size"), ("\"threads\":2", "\"threads\":0", "threads"),
        (":12345", ":-1", "steps.1.nanoseconds"), (":12345", ":1e9", "steps.1.nanoseconds"),
        (":12345", ":99999999999999999", "steps.1.nanoseconds"),
        (":12345", ":99999999999999999999999", "steps.1.nanoseconds"),
        (",\"nanoseconds\":12345", "", "missing key 'nanoseconds'"),
        ("\"name\":\"load\",", "", "missing key 'name'"),
        ("{\"name\":\"load\",\"nanoseconds\":0}", "7", "expected a map"),
        ("\"threads\":2", "\"threads\":2,\"threads\":3", "found 'threads' more than once"),
    ])
    func whatIsWrongIsNamed(old: String, new: String, said: String) throws {
        let text = Self.good.replacing(old, with: new)
        #expect(text != Self.good)
        let error = #expect(throws: CLIError.self) { try read(text) }
        #expect(error?.code == .badData)
        #expect(error?.message.contains(said) == true, "\(error?.message ?? "")")
        #expect(error?.message.contains("geeps bench layers writes such a file") == true)
    }

    @Test func aListInsteadOfStepsIsNamed() throws {
        let text = Self.good.prefix(while: { $0 != "[" }) + "7}"
        let error = #expect(throws: CLIError.self) { try read(String(text)) }
        #expect(error?.message.contains("expected a list of steps") == true)
    }

    @Test func everyTruncatedFileIsRefused() throws {
        for count in 0..<Self.good.count {
            #expect(throws: CLIError.self) { try read(String(Self.good.prefix(count))) }
        }
    }

    @Test func filesWithOneByteChangedNeverCrash() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            var bytes = Data(Self.good.utf8)
            let index = Int.random(in: 0..<bytes.count, using: &random)
            bytes[index] = UInt8.random(in: .min ... .max, using: &random)
            _ = try withFile(bytes) { try? LayerTimes(path: $0) }
        }
    }

    @Test(arguments: [
        "", "\n", "hello", "[]", "{}", "{\"a\":&x [1],\"b\":*x}", "!!binary x", "{]", "}{",
        "--- {}", String(repeating: "[", count: 100_000), "model: {}\n# a job\n",
        "{\"schema\":\"geeps.layers/1\"}", "nul", "1e", "{\"a\"}",
    ])
    func otherFilesAreRefused(text: String) {
        #expect(throws: CLIError.self) { try read(text) }
    }

    @Test func binaryIsRefused() throws {
        var random = SystemRandomNumberGenerator()
        let noise = Data((0..<4096).map { _ in UInt8.random(in: .min ... .max, using: &random) })
        try withFile(noise + [0xFF]) { path in
            let error = #expect(throws: CLIError.self) { try LayerTimes(path: path) }
            #expect(error?.message.contains("not UTF-8") == true)
        }
        #expect(throws: CLIError.self) { try LayerTimes(path: "/tmp") }
        #expect(throws: CLIError.self) { try LayerTimes(path: "/nowhere/x.json") }
    }

    @Test(arguments: [
        ("digits.yaml", "digits.layers.json"), ("a.b/job", "a.b/job.layers.json"),
        ("/x/my.job.yml", "/x/my.job.layers.json"), (".yaml", ".yaml.layers.json"),
    ])
    func theyLieBesideTheJob(job: String, path: String) {
        #expect(LayerTimes.path(besideJob: job) == path)
    }

    @Test func timesOfAnotherNetworkAreIgnoredAndSaidSo() throws {
        let network = try network()
        let job = "/tmp/geeps-job-\(UInt64.random(in: .min ... .max)).yaml"
        let path = LayerTimes.path(besideJob: job)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var said: [String] = []
        #expect(LayerTimes.besideJob(job, for: network) { said.append($0) } == nil)
        #expect(said.isEmpty)
        try times(of: network).write(to: path)
        #expect(LayerTimes.besideJob(job, for: network) { said.append($0) } != nil)
        #expect(said.isEmpty)
        #expect(
            LayerTimes.besideJob(job, for: try self.network(batchSize: 4)) { said.append($0) }
                == nil)
        #expect(said.count == 1)
        #expect(said.first?.contains("batches of 8") == true)
        try writeFile(path, "{}")
        #expect(LayerTimes.besideJob(job, for: network) { said.append($0) } == nil)
        #expect(said.count == 2)
    }
}
