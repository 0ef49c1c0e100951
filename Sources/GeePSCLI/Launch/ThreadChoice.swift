import CGeePSShims
import GeePSNN

/// How many threads compute the layers of a worker.
enum ThreadChoice {
    /// Multiply-adds of a step's forward pass that are worth a thread of their own: some milliseconds of work.
    ///
    /// Below, starting and joining threads costs more than they save, and ten times as much on cores that are
    /// busy otherwise (measured: LeNet on digits, two threads on a loaded machine: a tenth of the speed of one).
    static let workPerThread = 20_000_000

    /// Threads for a step of `multiplyAdds`, at most `cores`; nil where the environment has decided.
    ///
    /// Of several `workers` each has its share of the cores, as `LocalLaunch` divides them.
    static func count(
        multiplyAdds: Int, cores: Int, workers: Int = 1, environment: [String: String]
    ) -> Int? {
        if let given = environment["OMP_NUM_THREADS"], !given.isEmpty { return nil }
        if workers > 1 { return max(1, cores / workers) }
        return max(1, min(cores, multiplyAdds / workPerThread))
    }

    /// Sets the threads of the calling thread, which is the one that trains.
    ///
    /// - Parameter workers: those that will share this machine; 1 in a process that is one of them.
    static func apply(
        model: ModelConfiguration, input: Shape, batchSize: Int, workers: Int = 1
    ) {
        let work = model.multiplyAdds(input: input) * batchSize
        let count = count(
            multiplyAdds: work, cores: Int(geeps_available_cores()), workers: workers,
            environment: processEnvironment())
        if let count { ComputeThreads.set(count) }
    }
}
