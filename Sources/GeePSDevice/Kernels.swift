import CGeePSKernels

/// The host device's kernels over float32, at the best instruction set of this processor.
///
/// Counts are in values, `rowCount` in rows, `rowWidth` in values. Arrays must not overlap; an index must
/// lie inside the array it indexes: nothing is checked here, callers check once for a whole batch. All
/// instruction sets give the same bits. No call allocates or waits.
public enum Kernels {
    /// Gathers rows: `target[i] = source[index[i]]`; large aligned results go past the caches.
    public static func gatherRows(
        _ target: UnsafeMutablePointer<Float>, from source: UnsafePointer<Float>,
        at index: UnsafePointer<UInt32>, rowCount: Int, rowWidth: Int
    ) {
        best.gather_rows(target, source, index, Int64(rowCount), Int64(rowWidth))
    }

    /// Puts rows in their places: `target[index[i]] = source[i]`; of a repeated index the last stays.
    public static func scatterRows(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>,
        at index: UnsafePointer<UInt32>, rowCount: Int, rowWidth: Int
    ) {
        best.scatter_rows(target, source, index, Int64(rowCount), Int64(rowWidth))
    }

    /// Adds rows in their places: `target[index[i]] += source[i]`, in order; an index may repeat.
    public static func scatterAddRows(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>,
        at index: UnsafePointer<UInt32>, rowCount: Int, rowWidth: Int
    ) {
        best.scatter_add_rows(target, source, index, Int64(rowCount), Int64(rowWidth))
    }

    /// Copies: `target = source`.
    public static func copy(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int
    ) {
        best.copy(target, source, Int64(count))
    }

    /// Sets every value: `target = value`.
    public static func fill(_ target: UnsafeMutablePointer<Float>, with value: Float, count: Int) {
        best.fill(target, value, Int64(count))
    }

    /// Adds: `target += source`.
    public static func add(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int
    ) {
        best.add(target, source, Int64(count))
    }

    /// Multiplies: `target *= factor`.
    public static func scale(_ target: UnsafeMutablePointer<Float>, by factor: Float, count: Int) {
        best.scale(target, factor, Int64(count))
    }

    /// Adds two arrays into a third: `target = a + b`.
    public static func sum(
        _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>,
        into target: UnsafeMutablePointer<Float>, count: Int
    ) {
        best.sum_of_two(target, a, b, Int64(count))
    }

    /// The sum of squares, added up in double, in an order that depends on `count` alone.
    public static func squaredNorm(_ source: UnsafePointer<Float>, count: Int) -> Double {
        best.squared_norm(source, Int64(count))
    }

    /// Which instruction set runs: `baseline`, `x86-64-v3` (AVX2, FMA) or `x86-64-v4` (AVX-512).
    public static var instructionSet: String {
        switch best.level {
        case geeps_level_v4: "x86-64-v4"
        case geeps_level_v3: "x86-64-v3"
        default: "baseline"
        }
    }

    static var best: geeps_kernels { geeps_kernels_best().pointee }
}
