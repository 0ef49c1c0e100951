import CGeePSKernels
import Testing

/// A launch of one dimension.
struct LaunchShape: CustomStringConvertible, Sendable {
    var grid: UInt32
    var block: UInt32

    var description: String { "\(grid) x \(block)" }

    /// One thread, fewer threads than items, more threads than items; sizes without a common divisor.
    static let all = [(1, 1), (1, 32), (3, 7), (5, 64), (12, 256)]
        .map { LaunchShape(grid: $0.0, block: $0.1) }
}

/// Runs a kernel of the text for CUDA on the host.
func launch<each Argument: BitwiseCopyable>(
    _ kernel: String, _ shape: LaunchShape, _ arguments: repeat each Argument
) throws {
    let run = try #require(geeps_cuda_kernel_on_host(kernel), "no kernel is called \(kernel)")
    var parameters: [UnsafeMutableRawPointer?] = []
    defer { for parameter in parameters { parameter?.deallocate() } }
    for argument in repeat each arguments {
        parameters.append(boxed(argument))
    }
    run(parameters, shape.grid, shape.block)
}

private func boxed<Value: BitwiseCopyable>(_ value: Value) -> UnsafeMutableRawPointer {
    let memory = UnsafeMutableRawPointer.allocate(
        byteCount: MemoryLayout<Value>.size, alignment: 16)
    memory.storeBytes(of: value, as: Value.self)
    return memory
}

/// An array as a kernel sees it: at a chosen distance from an aligned address, watched at both ends.
final class KernelArray<Element: BitwiseCopyable> {
    let start: UnsafeMutablePointer<Element>
    let count: Int
    private let memory: UnsafeMutableRawBufferPointer
    private let offset: Int
    private static var margin: Int { 64 }
    private static var mark: UInt8 { 0xA5 }

    /// Copies `values`; they start `misalignment` elements after an address of 64 bytes.
    init(_ values: [Element], misalignment: Int = 0) {
        let stride = MemoryLayout<Element>.stride
        count = values.count
        offset = Self.margin + misalignment * stride
        memory = .allocate(
            byteCount: offset + count * stride + Self.margin, alignment: Self.margin)
        memory.initializeMemory(as: UInt8.self, repeating: Self.mark)
        start = (memory.baseAddress! + offset).bindMemory(to: Element.self, capacity: count)
        for (index, value) in values.enumerated() { start[index] = value }
    }

    deinit { memory.deallocate() }

    var constant: UnsafePointer<Element> { UnsafePointer(start) }

    /// What is there now; a write outside is a failure of the test.
    var values: [Element] {
        let end = offset + count * MemoryLayout<Element>.stride
        let isIntact =
            memory[..<offset].allSatisfy { $0 == Self.mark }
            && memory[end...].allSatisfy { $0 == Self.mark }
        #expect(isIntact, "written outside of \(count) elements")
        return Array(UnsafeBufferPointer(start: start, count: count))
    }
}

/// Numbers for tests, the same in every run.
struct TestNumbers {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// The next of SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Values of either sign, most from 2^-12 to 2; some are zero, some denormal, some large.
    mutating func floats(_ count: Int) -> [Float] {
        (0..<count).map { _ in
            let bits = next()
            let sign: Float = bits & 1 == 0 ? 1 : -1
            let fraction = 1 + Float(bits >> 41) * 0x1p-23
            switch (bits >> 8) % 61 {
            case 0: return sign * 0
            case 1: return sign * fraction * 0x1p-140
            case 2: return sign * fraction * 0x1p40
            default: return sign * fraction / Float(1 << ((bits >> 16) % 13))
            }
        }
    }

    /// Whole numbers from -8 to 7: their sums are exact in any order.
    mutating func wholeFloats(_ count: Int) -> [Float] {
        (0..<count).map { _ in Float(Int(next() % 16) - 8) }
    }

    /// Values from 0 up to 2.
    mutating func positiveFloats(_ count: Int) -> [Float] {
        (0..<count).map { _ in Float(next() >> 40) * 0x1p-23 }
    }

    mutating func indices(_ count: Int, below bound: Int) -> [UInt32] {
        (0..<count).map { _ in UInt32(next() % UInt64(bound)) }
    }

    /// `count` different indices below `bound`.
    mutating func differentIndices(_ count: Int, below bound: Int) -> [UInt32] {
        var all = (0..<UInt32(bound)).map { (key: next(), index: $0) }
        all.sort { $0.key < $1.key }
        return all.prefix(count).map(\.index)
    }
}

extension [Float] {
    /// The bits: zeros of either sign and all NaNs differ.
    var bits: [UInt32] { map(\.bitPattern) }
}
