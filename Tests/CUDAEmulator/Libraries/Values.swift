/// Float32 values in emulated device memory.
struct Values: @unchecked Sendable {
    // Sendable: the emulator watches who reads and writes them when.
    let start: UnsafeMutablePointer<Float>
    let count: Int

    var buffer: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: start, count: count * MemoryLayout<Float>.stride)
    }

    var bytes: AddressRange {
        UInt(bitPattern: start)..<UInt(bitPattern: start) + UInt(buffer.count)
    }

    /// A run of them.
    func dropFirst(_ offset: Int, count: Int) -> Values {
        Values(start: start + offset, count: count)
    }

    /// Makes them useless.
    func scribble() { start.update(repeating: .nan, count: count) }
}

/// `alpha result + beta previous`; with a beta of zero what was there is not looked at.
struct Blend: Sendable {
    var alpha: Float
    var beta: Float

    /// What is read of `target` beside being written.
    func changed(_ target: Values) -> [Values] { beta == 0 ? [] : [target] }

    func store(_ result: Double, _ target: UnsafeMutablePointer<Float>) {
        let mixed = Double(alpha) * result
        target.pointee = Float(beta == 0 ? mixed : mixed + Double(beta) * Double(target.pointee))
    }

    /// Stores `results` one after the other.
    func store(_ results: [Double], _ target: Values) {
        for (index, result) in results.enumerated() { store(result, target.start + index) }
    }
}

/// What becomes of factors before they are multiplied.
enum Rounding: Sendable {
    case none
    /// 10 bits of a mantissa.
    case tf32
    /// 7 bits of a mantissa.
    case bfloat16

    private var droppedBits: UInt32 {
        switch self {
        case .none: 0
        case .tf32: 13
        case .bfloat16: 16
        }
    }

    /// To nearest, ties to even.
    func callAsFunction(_ value: Float) -> Float {
        guard self != .none, value.isFinite else { return value }
        let bits = value.bitPattern
        let half = (UInt32(1) << (droppedBits - 1)) - 1 + ((bits >> droppedBits) & 1)
        return Float(bitPattern: ((bits + half) >> droppedBits) << droppedBits)
    }

    func copy(_ values: Values) -> ValueCopy { ValueCopy(values.count) { self(values.start[$0]) } }
}

/// Values of the emulator's own.
final class ValueCopy {
    let values: Values

    init(_ count: Int, _ value: (Int) -> Float) {
        values = Values(start: .allocate(capacity: count), count: count)
        for index in 0..<count { (values.start + index).initialize(to: value(index)) }
    }

    deinit { values.start.deallocate() }
}

/// A product of matrices, or a convolution, that was put on a stream.
public struct CUDAProduct: Hashable, Sendable {
    /// The library's function.
    public var function: String
    /// What it computes with: `cublasComputeType_t`, or `cudnnMathType_t` of a convolution.
    public var math: Int32
    /// Its algorithm.
    public var algorithm: Int32
}

extension CUDAEmulator {
    /// Products of cuBLAS and convolutions of cuDNN so far, in the order of calls.
    public var products: [CUDAProduct] { LibraryObjects.of(self).products }
}
