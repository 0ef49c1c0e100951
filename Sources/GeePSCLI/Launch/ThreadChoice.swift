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
    static func count(multiplyAdds: Int, cores: Int, environment: [String: String]) -> Int? {
        if let given = environment["OMP_NUM_THREADS"], !given.isEmpty { return nil }
        return max(1, min(cores, multiplyAdds / workPerThread))
    }

    /// Sets the threads of the calling thread, which is the one that trains.
    static func apply(model: ModelConfiguration, input: Shape, batchSize: Int) {
        let work = model.multiplyAdds(input: input) * batchSize
        let count = count(
            multiplyAdds: work, cores: Int(geeps_available_cores()),
            environment: processEnvironment())
        if let count { ComputeThreads.set(count) }
    }
}
