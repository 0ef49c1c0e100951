import GeePSCore
import GeePSDevice
import GeePSNN

/// Tests that are part of the program, for machines without a toolchain: every one compares what a device does
/// with plain loops, or with the host.
struct SelfTest {
    /// One test.
    struct Case: Sendable {
        var suite: String
        var name: String
        /// - Throws: what was found and what was expected.
        var run: @Sendable (SelfTestBench) throws -> Void
    }

    /// What a test came to.
    struct Outcome {
        var suite: String
        var name: String
        var nanoseconds: UInt64
        /// What went wrong; nil when all went well.
        var failure: String?
    }

    /// All tests, in the order they run.
    static let cases = deviceCases + layerCases + memoryCases

    /// Runs `cases` one after the other on `bench`; a failure does not end the others.
    static func run(
        _ cases: [Case] = SelfTest.cases, on bench: SelfTestBench, report: (Outcome) -> Void
    ) -> [Outcome] {
        cases.map { test in
            let start = monotonicNanoseconds()
            var failure: String?
            do { try test.run(bench) } catch { failure = "\(error)" }
            let outcome = Outcome(
                suite: test.suite, name: test.name,
                nanoseconds: monotonicNanoseconds() - start, failure: failure)
            report(outcome)
            return outcome
        }
    }
}

/// What a self-test found against what it expected.
struct SelfTestFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }

    /// - Throws: where the first value is that differs by more than `tolerance` of the largest expected one.
    static func require(
        _ found: [Float], equals expected: [Float], within tolerance: Double = 0, _ what: String
    ) throws(SelfTestFailure) {
        guard found.count == expected.count else {
            throw SelfTestFailure("\(what): \(found.count) values, expected \(expected.count)")
        }
        let scale = expected.reduce(1e-12) { max($0, abs(Double($1))) }
        for (index, (a, b)) in zip(found, expected).enumerated() {
            let difference = abs(Double(a) - Double(b))
            guard difference <= tolerance * scale else {
                throw SelfTestFailure(
                    "\(what): value \(index) of \(found.count) is \(a), expected \(b)"
                        + (tolerance > 0 ? " within \(tolerance) of \(scale)" : ""))
            }
        }
    }
}

/// The device under test, and what computes layers on it.
struct SelfTestBench {
    let device: any Device
    let target: ComputeTarget
    private let makeDevice: (Int) throws(DeviceError) -> any Device

    /// The host.
    init() {
        device = HostDevice()
        target = .host
        makeDevice = { HostDevice(limitBytes: $0) }
    }

    /// A GPU.
    init(_ gpu: CUDADevice, _ compute: CUDACompute) {
        device = gpu
        target = .cuda(compute)
        makeDevice = { (limitBytes) throws(DeviceError) in try gpu.sibling(limitBytes: limitBytes) }
    }

    /// The same device with `limitBytes` of memory of its own.
    func device(limitBytes: Int) throws(DeviceError) -> any Device { try makeDevice(limitBytes) }

    /// Numbers from -1 to 1, the same in every run.
    static func values(_ count: Int, seed: UInt64 = 1) -> [Float] {
        (0..<count).map { index in
            let mixed = (UInt64(index) &+ seed &* 7919) &* 0x9E37_79B9_7F4A_7C15
            return Float(Int32(truncatingIfNeeded: mixed >> 32)) / 0x1p31
        }
    }
}

/// An array of values in a device's memory.
final class DeviceArray {
    let memory: SharedBuffer
    let count: Int
    var floats: UnsafeMutablePointer<Float> { memory.floats }

    init(_ values: [Float], on device: any Device) throws(DeviceError) {
        count = values.count
        memory = SharedBuffer(
            try device.allocate(byteCount: max(4, values.count * 4), for: .localData))
        values.withUnsafeBytes { bytes in
            guard let source = bytes.baseAddress else { return }
            device.write(source, to: memory.address, byteCount: bytes.count)
        }
    }

    /// What it holds behind all work on `stream`.
    func read(on stream: any DeviceStream) throws(DeviceError) -> [Float] {
        var values = [Float](repeating: 0, count: count)
        var failure: DeviceError?
        values.withUnsafeMutableBytes { bytes in
            guard let target = bytes.baseAddress else { return }
            stream.copy(
                from: memory.address, to: target, byteCount: bytes.count, direction: .deviceToHost,
                label: "read")
            do throws(DeviceError) {
                try stream.synchronise(deadline: .after(.seconds(60)))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return values
    }
}
