public import GeePSCore

/// What lives where, and when: the answer of the planner.
///
/// Memory is one arena. A **stay** is one piece of it with a place in time: from the first acquire to the last
/// release, joined over the gaps in which its content remains. Iterations repeat, so a stay may begin in one
/// and end in the next.
public struct Placement: Hashable, Sendable {
    /// What a stay holds.
    public enum Item: Hashable, Sendable {
        /// Local batch.
        case local(Int)
        /// Rows of a row batch, read: from the host, or gathered from the cache on the device.
        case read(Int)
        /// An update of a row batch, on its way to the host's update log.
        case update(Int)
        /// A table's parameter cache, always there; under the paper's policy its log lies behind it.
        case cache(TableIndex)
    }

    /// A stay that something waits for.
    public struct Dependency: Hashable, Sendable {
        /// Index in `stays`.
        public var stay: Int
        /// 0: of the same iteration, 1: of the one before.
        ///
        /// A stay is of the iteration it begins in.
        public var iterationsBack: Int
    }

    /// An item's time on the device.
    public struct Stay: Hashable, Sendable {
        /// What it holds.
        public var item: Item
        /// Bytes from the start of the arena.
        public var offset: Int
        /// Bytes, not rounded up.
        public var byteCount: Int
        /// Position of the acquire it begins with; zero when it is always there.
        public var firstAccess: Int
        /// Position of the release it ends with; of the next iteration when before `firstAccess`.
        public var lastAccess: Int
        /// Never begins nor ends.
        public var isPinned: Bool
        /// Content is copied from the host before the first acquire.
        public var fetchesIn: Bool
        /// Content is copied to the host after the last release.
        public var savesOut: Bool
        /// Some copy has no room beside its neighbours, so it does not overlap their compute.
        public var isSingleBuffered: Bool
        /// First phase its memory is set aside for, room to copy in included; below zero: of the iteration
        /// before.
        public var firstPhase: Int
        /// Phases its memory is set aside for, room to copy out included.
        public var phaseCount: Int
        /// Whose memory it takes over: all must be vacated (released and copied out) before it is touched.
        public var predecessors: [Dependency]
        /// Index of the stay it is added to when it ends, instead of being copied out; nil for all others.
        ///
        /// An update of a table whose sum stays on the device until the last update of the iteration.
        public var addsInto: Int?
        /// Its content stays in the caller's memory, which counts as the device's; it has no place in the arena.
        public var isLeft: Bool
        /// Whose copy to the host must be done before content is fetched; nil for parameters, and where
        /// nothing is fetched.
        public var source: Dependency?
    }

    /// Where a local item lives.
    public enum Home: String, Hashable, Sendable {
        /// Always on the device, at one address.
        case pinned
        /// On the device and on the host; copied between.
        case moves
        /// On the device while it is used; no host memory, no copy.
        case transient
        /// Not part of the iteration.
        case unused
    }

    /// Where a table's parameter cache is.
    public enum CacheHome: String, Hashable, Sendable {
        case device
        case host
    }

    /// In the order of their first acquire, what is always there first: the order to bring them in.
    public internal(set) var stays: [Stay]
    /// By access, index in `stays`; nil for `clock` and for reads lent from a cache on the device.
    public internal(set) var stayOfAccess: [Int?]
    /// By local batch.
    public internal(set) var homes: [Home]
    /// By table.
    public internal(set) var cacheHomes: [CacheHome]
    /// By phase, bytes set aside in the arena or left with the caller.
    public internal(set) var phaseBytes: [Int]
    /// By access, its phase.
    public internal(set) var phaseOfAccess: [Int]
    /// Memory to allocate, once.
    public internal(set) var arenaBytes: Int
    /// Device memory beside the arena.
    public internal(set) var fixedBytes: Int
    /// Most memory of the caller's that holds content which is left there.
    public internal(set) var leftBytes: Int
    /// Copied from host to device per clock; rows that arrive for caches on the device included.
    public internal(set) var bytesIn: Int
    /// Copied from device to host per clock.
    public internal(set) var bytesOut: Int
    /// Of `bytesIn`, rows that arrive for caches on the device.
    public internal(set) var bytesOfArrivingRows: Int
    /// Of `bytesOut`, updates.
    public internal(set) var bytesOfUpdates: Int
    /// Speed, when compute times and link are known.
    public internal(set) var forecast: Forecast?

    /// Largest sum of what is there at one time; arena and what is left are larger by what fragmentation costs.
    public var peakBytes: Int { phaseBytes.max() ?? 0 }
    /// Arena, fixed memory and what is left with the caller.
    public var deviceBytes: Int { arenaBytes + fixedBytes + leftBytes }
    /// Copied per clock, both ways.
    public var bytesMoved: Int { bytesIn + bytesOut }
    /// Copied per clock because local data does not stay.
    public var bytesOfLocalData: Int {
        stays.reduce(0) { sum, stay in
            guard case .local = stay.item else { return sum }
            return sum + stay.byteCount * ((stay.fetchesIn ? 1 : 0) + (stay.savesOut ? 1 : 0))
        }
    }
    /// Stays that copy without room beside their neighbours.
    public var singleBufferedCount: Int { stays.count { $0.isSingleBuffered } }
}

/// What an iteration will take.
public struct Forecast: Hashable, Sendable {
    /// An iteration in the steady state.
    public var iterationNanoseconds: UInt64
    /// Of it, time in which compute waits for copies.
    public var stallNanoseconds: UInt64

    /// Share of the iteration that is compute.
    public var efficiency: Double {
        guard iterationNanoseconds > 0 else { return 1 }
        return 1 - Double(stallNanoseconds) / Double(iterationNanoseconds)
    }
}
