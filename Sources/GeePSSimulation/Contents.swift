/// The most workers a simulated job has.
let workersMaximum = 5

/// What simulated rows hold: a lane for each worker, to which its contributions are added, and the
/// initial value.
///
/// Whole numbers that wrap, so that sums are exact in any order.
///
/// The low 16 bits of a worker's lane count its contributions, the others sum weights that grow with the
/// tick. So the lane says how many are in, and whether they are the first ones, each once.
struct Contents {
    private var lanes = InlineArray<6, UInt64>(repeating: 0)

    /// The initial value, as it came from rank 0.
    var initial: UInt64 {
        get { lanes[workersMaximum] }
        set { lanes[workersMaximum] = newValue }
    }

    subscript(worker: Int) -> UInt64 {
        get { lanes[worker] }
        set { lanes[worker] = newValue }
    }

    /// Adds every lane of `other`; the initial value stays.
    mutating func add(_ other: Contents) {
        for worker in 0..<workersMaximum { lanes[worker] &+= other.lanes[worker] }
    }

    /// Whether all lanes are equal.
    func equals(_ other: Contents) -> Bool {
        for lane in 0...workersMaximum where lanes[lane] != other.lanes[lane] { return false }
        return true
    }
}

/// The contribution of `worker` to `block` at `tick`.
///
/// A job that was rolled back computes others than before, so that a frame of an earlier generation
/// is seen in the sum.
func contribution(worker: Int, block: Int, tick: UInt64, generation: UInt32) -> UInt64 {
    sum(worker: worker, block: block, upTo: tick, generation: generation)
        &- sum(worker: worker, block: block, upTo: tick - 1, generation: generation)
}

/// The sum of the contributions of ticks `1...tick`, in closed form.
func sum(worker: Int, block: Int, upTo tick: UInt64, generation: UInt32) -> UInt64 {
    let n = tick
    let squares = n &* (n &+ 1) &* (2 &* n &+ 1) / 6
    let numbers = n &* (n &+ 1) / 2
    let each = 31 &* UInt64(block + 1) &+ 1009 &* UInt64(generation)
    let weights = squares &+ 17 &* UInt64(worker + 1) &* numbers &+ each &* n
    return n &+ (weights << 16)
}

/// The value of `block` before the first clock.
func initialValue(block: Int) -> UInt64 { 0xfeed_0000 + UInt64(block) }
