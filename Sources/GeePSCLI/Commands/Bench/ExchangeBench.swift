import ArgumentParser
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory

/// `geeps bench exchange`: one tensor pushed, updated at the keepers and pulled.
struct ExchangeBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exchange",
        abstract: "Times a clock of one table: push, sum, optimiser, pull.",
        discussion: """
            A round begins when the update is complete in the client's memory and ends when fresh rows \
            may be read. With one worker the keeper is in a process of its own; with more, each worker's \
            process holds a part.
            """)

    @Option(help: "Bytes of the table.")
    var bytes = 4_200_000
    @Option(help: "Workers.")
    var workers = 1
    @Option(help: "Keepers (default: as many as workers).")
    var keepers: Int?
    @Option(help: "How frames travel.")
    var transport = CarrierName.auto
    @Option(help: "Lanes to each keeper (default: by the carrier).")
    var lanes: Int?
    @Option(help: "Bytes of a block.")
    var block = Limits.blockBytesDefault
    @Option(help: "What keepers do.")
    var rule = BenchRule.sgd
    @Option(help: "Rounds.")
    var rounds = 30

    func run() throws {
        let processes = max(2, workers)
        guard let launch = try Launch.ofBenchmark(processes: processes) else { return }
        var configuration = NodeConfiguration(
            tables: [TableLayout(name: "t", valueCount: max(1, bytes / 4))],
            optimizer: rule.configuration)
        configuration.rank = launch.rank
        configuration.worldSize = processes
        configuration.workerCount = workers
        configuration.keeperCount = keepers ?? workers
        configuration.carrier = transport.choice
        configuration.laneCount = lanes
        configuration.blockBytes = block
        if let rendezvous = launch.rendezvous { configuration.rendezvous = "\(rendezvous)" }
        let node = try Node.join(configuration, device: HostDevice())
        if launch.rank < workers {
            let watch = try measure(node.client, rank: launch.rank)
            if launch.rank == 0 { report(watch, carriers: node.carriers) }
        }
        node.leave()
    }

    private func measure(_ client: Client, rank: Int) throws -> Stopwatch {
        let batch = client.batch(of: 0)
        if rank == 0 {
            let zeros = [Float](repeating: 0, count: max(1, bytes / 4))
            try zeros.withUnsafeBufferPointer { try client.initialise(0, values: $0) }
        }
        try client.dryRun { recorder in
            recorder.update(batch)
            recorder.endUpdate(batch)
            recorder.clock()
        }
        _ = try client.read(batch, isPlanned: false)
        for _ in 0..<3 { _ = try round(client, batch) }
        var watch = Stopwatch()
        for _ in 0..<rounds { watch.add(try round(client, batch)) }
        return watch
    }

    /// - Returns: nanoseconds from the complete update to fresh rows.
    private func round(_ client: Client, _ batch: RowBatch) throws -> UInt64 {
        // A real application writes its gradient here; the memory is the update log itself.
        let update = try client.update(batch)
        update.values[0] = 1e-3
        let start = monotonicNanoseconds()
        update.finish()
        client.clock()
        _ = try client.read(batch, isPlanned: false)
        return monotonicNanoseconds() - start
    }

    private func report(_ watch: Stopwatch, carriers: [String]) {
        writeOutput(
            JSONValue.object([
                "schema": .string("geeps.bench.exchange/1"), "bytes": .integer(Int64(bytes)),
                "workers": .integer(Int64(workers)),
                "keepers": .integer(Int64(keepers ?? workers)), "rule": .string(rule.rawValue),
                "carriers": .string(carriers.joined(separator: ", ")), "round": watch.json,
            ]).text + "\n")
    }
}
