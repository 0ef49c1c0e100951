import ArgumentParser
import GeePSMemory
import GeePSNN
import Glibc

/// `geeps plan`.
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Says what of a job lives where on a device of a given size, and what it costs.",
        discussion: """
            Builds the network, not the data: only the shape of a sample is read. A budget is a number of \
            bytes (512MiB, 1.5GB) or a share of what keeping everything needs (35%).

            EXAMPLES
              geeps plan Examples/digits.yaml
              geeps plan Examples/digits.yaml --budget 35%
              geeps plan job.yaml --budget 512MiB --policy paper
              geeps plan job.yaml --sweep --svg sweep.svg
              geeps plan job.yaml --budget 4GiB --json | jq .bytes_in
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(
        help: ArgumentHelp(
            "Device memory; without it, what keeping everything needs.",
            valueName: "bytes|percent"))
    var budget: String?

    @Option(help: "How to choose what stays: benefit, or paper for GeePS's own algorithm.")
    var policy: PolicyName = .benefit

    @Flag(help: "Plans budgets from the least to the full and draws what each moves.")
    var sweep = false

    @Option(
        help: ArgumentHelp("With --sweep: also draws into this file.", valueName: "path"),
        completion: .file(extensions: ["svg"]))
    var svg: String?

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's; list elements by position.",
            valueName: "key.path=value"))
    var assignments: [String] = []

    @Flag(help: "Prints one JSON object instead of a table.")
    var json = false

    /// The planner's policies under the names a person gives.
    enum PolicyName: String, ExpressibleByArgument, CaseIterable {
        case benefit, paper
        var policy: PlanPolicy { self == .benefit ? .benefit : .paper }
    }

    func validate() throws {
        if let budget, MemoryBudget(budget) == nil {
            throw ValidationError(
                "--budget is \(budget), expected bytes such as 512MiB or 1.5GB, or a share such as 35%"
            )
        }
        if svg != nil, !sweep { throw ValidationError("--svg draws a sweep: add --sweep") }
        if sweep, budget != nil {
            throw ValidationError("--sweep plans many budgets: leave --budget out")
        }
    }

    func run() throws {
        let loader = JobLoader(
            file: job, assignments: assignments, workers: nil, defaultWorkers: 1, checksPaths: false
        )
        let network = try Self.network(of: try loader.load())
        let planner = try PlacementPlanner(network.planProblem())
        let name = job.split(separator: "/").last.map(String.init) ?? job
        if sweep {
            let curve = try PlanSweep(planner)
            if let svg { try writeFile(svg, PlanSweepDrawing(curve, title: name).svg) }
            writeOutput(json ? curve.json(job: name).text + "\n" : curve.text(title: name))
            return
        }
        let bytes =
            budget.flatMap(MemoryBudget.init)?.byteCount(ofFull: planner.fullBytes)
            ?? planner.fullBytes
        let placement = try planner.placement(budgetBytes: bytes, policy: policy.policy)
        let report = PlanReport(
            job: name, policy: policy.policy, budgetBytes: bytes, network: network,
            planner: planner, placement: placement)
        writeOutput(json ? report.json.text + "\n" : report.text)
    }

    /// The network of `job` for one worker's batch; of the data only the shape is read.
    static func network(of job: Job) throws(NNError) -> Network {
        let shape: Shape
        var classCount = 10
        switch job.data.source {
        case .mnist(let directory):
            shape = try IDX.shape(directory: directory, split: .train)
        case .cifar10:
            shape = CIFAR10.shape
            classCount = CIFAR10.classCount
        case .synthetic(_, let sizes, let classes, _):
            shape = Shape(synthetic: sizes)
            classCount = classes
        }
        let model = job.model.configuration(classCount: classCount)
        // Workspaces depend on the number of threads.
        ThreadChoice.apply(model: model, input: shape, batchSize: job.data.batchSize)
        return try Network(model, input: shape, batchSize: job.data.batchSize)
    }
}

/// Writes `text` to `path`.
///
/// - Throws: `CLIError` that says what the system answered.
func writeFile(_ path: String, _ text: String) throws(CLIError) {
    guard let file = fopen(path, "w") else {
        throw CLIError(.cannotOpen, "cannot create \(path): \(lastError())")
    }
    let isWritten = fputs(text, file) >= 0
    guard fclose(file) == 0, isWritten else {
        throw CLIError(.inputOutput, "cannot write \(path): \(lastError())")
    }
}
