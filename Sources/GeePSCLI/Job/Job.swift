import GeePSCore
import GeePSNN
import GeePSTransport

/// Everything a training run is told: a job file after defaults and overrides, with absolute paths.
struct Job: Hashable, Sendable {
    var model: ModelSource
    var data: DataConfiguration
    var optimizer: OptimizerConfiguration
    var length: TrainingLength
    /// Seeds the initial weights, the order of samples and dropout.
    var seed: UInt64
    var staleness: Staleness
    /// Whether reads get the newest rows that are there.
    var refreshesReads = true
    var cluster: ClusterConfiguration
    /// Mini-batches of every worker in a clock.
    var batchesPerClock = 1
    /// How a GPU multiplies.
    var precision = ComputePrecision.float32
    /// How device memory is managed; nil: everything stays on the device.
    var memory: MemorySettings?
    /// A safetensors file the weights start from.
    var initialWeights: String?
    /// Where results go; nothing is written without it.
    var outputDirectory: String?
    /// How checkpoints are made; nil: none are.
    var checkpoint: CheckpointSettings?
    /// Clocks between two looks at the test half; nil: only at the end.
    var clocksPerValidation: Int?
    /// How long layers take at least; nil: as long as they need.
    var pace: EmulatedPace?
}

/// Which network is trained.
enum ModelSource: Hashable, Sendable {
    /// One of `builtInNames`.
    case builtIn(String)
    /// Spelled out in the job.
    case layers(ModelConfiguration)

    /// Networks that have a name.
    static let builtInNames = ["lenet"]
}

/// What is trained on.
struct DataConfiguration: Hashable, Sendable {
    /// Where samples come from.
    enum Source: Hashable, Sendable {
        /// A directory with the four IDX files, gzip or not.
        case mnist(directory: String)
        /// A directory with data_batch_*.bin and test_batch.bin.
        case cifar10(directory: String)
        /// Made from a seed; `shape` is that of one sample, without the batch.
        case synthetic(samples: Int, shape: [Int], classes: Int, seed: UInt64)
    }

    var source: Source
    /// Samples of a mini-batch, of each worker; a clock has `batchesPerClock` of them.
    var batchSize: Int
    /// Whether each epoch has an order of its own.
    var isShuffled: Bool
}

/// When training ends.
enum TrainingLength: Hashable, Sendable {
    /// Passes over the training data, shared by all workers.
    case epochs(Int)
    /// Clocks of each worker.
    case steps(Int)
}

/// How many processes there are and how they meet.
struct ClusterConfiguration: Hashable, Sendable {
    /// The way rows travel between processes.
    enum Carriage: String, Hashable, Sendable, CaseIterable {
        /// The fastest that works between two processes.
        case automatic = "auto"
        case tcp
        case sharedMemory = "shared-memory"
        case unixSocket = "unix-socket"
        case ucx
    }

    var workers: Int
    /// Shards of every table, dealt to the workers' processes in turn.
    var keepers: Int
    /// Threads that share the blocks of each; the device's choice when nil.
    var keeperThreads: Int?
    /// More threads than this have nothing to do in a process.
    static let keepersPerWorkerMaximum = 64
    var transport: Carriage
    /// TCP port of the rendezvous; 0 takes a free one.
    var port: Int
    /// Address to listen on.
    var interface: String
    /// How long the processes wait for each other at the start.
    var joinTimeout: Duration
    /// How long a lost connection between a worker and a keeper may take to be made anew.
    var reconnectTimeout: Duration = .seconds(10)
    /// Connections between a worker and a keeper; the transport's choice when nil.
    var lanes: Int?
    /// What connections between machines are encrypted with; nil: they are not, unless the environment says so.
    var tls: TLSFiles?
}
