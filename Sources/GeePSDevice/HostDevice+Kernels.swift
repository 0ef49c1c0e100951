import Glibc

extension HostDevice {
    /// Copies bytes; no link is in the way of set-up.
    public func write(
        _ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int
    ) {
        memcpy(target, source, byteCount)
    }

    /// `target[j] = source[indexes[j]]`.
    public func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.gatherRows(target, from: source, at: indexes, rowCount: count, rowWidth: rowWidth)
    }

    /// `target[indexes[j]] += source[j]`.
    public func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.scatterAddRows(source, to: target, at: indexes, rowCount: count, rowWidth: rowWidth)
    }

    /// `target += source`.
    public func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.add(source, to: target, count: count)
    }

    /// `target = source`.
    public func copy(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.copy(source, to: target, count: count)
    }

    /// `target = 0`.
    public func zero(_ target: UnsafeMutablePointer<Float>, count: Int) {
        Kernels.fill(target, with: 0, count: count)
    }
}
