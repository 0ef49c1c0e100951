import ArgumentParser
import GeePSCheckpoint
import GeePSCore
import GeePSNN
import GeePSServer
import Safetensors

/// `geeps checkpoint`.
struct CheckpointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Works with checkpoints.",
        subcommands: [CheckpointExportCommand.self])
}

/// `geeps checkpoint export`.
struct CheckpointExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Makes a weights file of a checkpoint, with PyTorch's names.",
        discussion: """
            EXAMPLES
              geeps checkpoint export job.yaml --to model.safetensors
              geeps checkpoint export job.yaml --from runs/digits/checkpoints/step-0000000300 \\
                --to model.safetensors
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's.", valueName: "key.path=value"))
    var assignments: [String] = []

    @Option(
        help: ArgumentHelp(
            "The checkpoint; the newest of the job when left out.", valueName: "directory"))
    var from: String?

    @Option(help: ArgumentHelp("The file to write.", valueName: "file"))
    var to: String

    func run() throws {
        let job = try JobLoader(
            file: job, assignments: assignments, workers: nil, defaultWorkers: 1, checksPaths: true
        ).load()
        let path = try from ?? newest(of: job)
        let data = try TrainingData(job.data)
        let network = try Network(
            job.model.configuration(classCount: data.training.classCount),
            input: data.training.shape, batchSize: job.data.batchSize, purpose: .training)
        let contents: WeightsFile.Contents
        do throws(CheckpointError) {
            let checkpoint = try Checkpoint(path: path)
            try checkpoint.verify()
            contents = try Self.contents(checkpoint, network)
        } catch {
            throw CLIError(.badData, error.message)
        }
        try WeightsFile.write(to, contents, of: network)
        writeOutput("\(to): the weights of \(path)\n")
    }

    private func newest(of job: Job) throws(CLIError) -> String {
        guard let checkpoint = job.checkpoint else {
            throw CLIError(
                .usage, "\(self.job) has no checkpoint section: --from says which checkpoint")
        }
        guard let tick = CheckpointDirectory(checkpoint.directory).ticks.last else {
            throw CLIError(.badData, "there is no checkpoint in \(checkpoint.directory)")
        }
        return CheckpointDirectory.path(checkpoint.directory, tick)
    }

    /// Rows of all keepers, and the running statistics of worker 0, as at the end of a run.
    private static func contents(_ checkpoint: Checkpoint, _ network: Network)
        throws(CheckpointError) -> WeightsFile.Contents
    {
        let reader = try ShardReader(checkpoint)
        let tables = Trainer.tables(of: network)
        try reader.check(tables: tables, stateNames: checkpoint.manifest.stateNames)
        var weights: [[Float]] = []
        for (index, table) in tables.enumerated() {
            var values = [Float](repeating: 0, count: table.valueCount)
            let failure = values.withUnsafeMutableBytes { bytes -> RowStoreError? in
                do throws(RowStoreError) {
                    try reader.read("rows", index, 0..<table.rowCount, into: bytes)
                    return nil
                } catch {
                    return error
                }
            }
            if let failure { throw CheckpointError(.damaged, failure.message) }
            weights.append(Array(values[..<network.parameters[index].valueCount]))
        }
        let record = try WorkerRecord(checkpoint, worker: 0, network: network)
        return WeightsFile.Contents(weights: weights, states: record.states)
    }
}
