import ArgumentParser
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory

/// `geeps bench sparse`: keyed floats pushed and pulled by index.
struct SparseBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sparse",
        abstract: "Times pushing and pulling single floats by key.",
        discussion: """
            A table of rows of one float; a batch of as many keys, in random order unless --sorted. Push: \
            from the complete update until the keeper has added it and its acknowledgement is here. Pull: \
            rows by key, copied in the keys' order, fresh as of the push.
            """)

    @Option(help: "Keys, and rows of the table.")
    var keys = 10_000_000
    @Flag(help: "Keys in ascending order.")
    var sorted = false
    @Option(help: "How frames travel.")
    var transport = CarrierName.auto
    @Option(help: "Rounds.")
    var rounds = 8

    func run() throws {
        guard let launch = try Launch.ofBenchmark(processes: 2) else { return }
        var configuration = NodeConfiguration(
            tables: [TableLayout(name: "t", rowCount: keys, rowWidth: 1)],
            optimizer: BenchRule.add.configuration)
        configuration.rank = launch.rank
        configuration.worldSize = 2
        configuration.workerCount = 1
        configuration.carrier = transport.choice
        if let rendezvous = launch.rendezvous { configuration.rendezvous = "\(rendezvous)" }
        let node = try Node.join(configuration, device: HostDevice())
        if launch.rank == 0 { try measure(node.client, carriers: node.carriers) }
        node.leave()
    }

    private func measure(_ client: Client, carriers: [String]) throws {
        var order = Array(0..<keys)
        var random = SystemRandomNumberGenerator()
        if !sorted { order.shuffle(using: &random) }
        let batch = try client.batch(of: 0, rows: order)
        let all = client.batch(of: 0)
        let zeros = [Float](repeating: 0, count: keys)
        try zeros.withUnsafeBufferPointer { try client.initialise(0, values: $0) }
        try client.dryRun { recorder in
            recorder.update(batch)
            recorder.endUpdate(batch)
            recorder.clock()
        }
        var (pushes, pulls) = (Stopwatch(), Stopwatch())
        for round in 0..<(rounds + 2) {
            let update = try client.update(batch)
            for index in 0..<update.count { update.values[index] = 1 }
            let start = monotonicNanoseconds()
            update.finish()
            client.clock()
            _ = try client.read(all, isPlanned: false)
            let pushed = monotonicNanoseconds()
            _ = try client.read(batch, isPlanned: false)
            let pulled = monotonicNanoseconds()
            guard round >= 2 else { continue }
            pushes.add(pushed - start)
            pulls.add(pulled - pushed)
        }
        writeOutput(
            JSONValue.object([
                "schema": .string("geeps.bench.sparse/1"), "keys": .integer(Int64(keys)),
                "sorted": .bool(sorted), "carriers": .string(carriers.joined(separator: ", ")),
                "push": pushes.json, "pull": pulls.json,
            ]).text + "\n")
    }
}
