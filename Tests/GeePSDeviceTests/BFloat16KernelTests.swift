import CGeePSKernels
import Testing

@Suite("CUDA BFloat16 Kernels") struct BFloat16KernelTests {
    /// The nearest bfloat16 of a number, the even one of two as near; from distances, not from bits.
    private static func nearest(_ value: Float) -> UInt16 {
        let below = UInt32(value.bitPattern >> 16)
        // 2^128 stands for infinity, as IEEE 754 rounds to it.
        func magnitude(_ upper: UInt32) -> Double {
            upper & 0x7FFF == 0x7F80 ? 0x1p128 : Double(Float(bitPattern: upper << 16)).magnitude
        }
        let exact = Double(value).magnitude
        let (down, up) = (exact - magnitude(below), magnitude(below + 1) - exact)
        let isUp = up < down || (up == down && below % 2 == 1)
        return UInt16(isUp ? below + 1 : below)
    }

    private static func convert(_ values: [Float], _ shape: LaunchShape) throws -> [UInt16] {
        let source = KernelArray(values, misalignment: 1)
        let target = KernelArray([UInt16](repeating: 0xBEEF, count: values.count), misalignment: 1)
        try launch(
            "geeps_float_to_bfloat16", shape, target.start, source.constant, Int64(values.count))
        return target.values
    }

    @Test(arguments: LaunchShape.all)
    func finiteNumbersGoToTheNearest(shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 13)
        let edges: [Float] = [
            0, -0.0, 1, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude,
            .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
        ]
        // Around every tie: half of the last place kept, one less, one more.
        let ties = (0..<2000).flatMap { _ in
            let upper = UInt32(truncatingIfNeeded: numbers.next()) & 0xFFFF_0000
            return [0x7FFF, 0x8000, 0x8001, 0, 0xFFFF].map { Float(bitPattern: upper | $0) }
        }
        let any = (0..<5000).map { _ in
            Float(bitPattern: UInt32(truncatingIfNeeded: numbers.next()))
        }
        let values = (edges + ties + any).filter(\.isFinite)
        #expect(try Self.convert(values, shape) == values.map(Self.nearest))
    }

    @Test func whatIsTooLargeAndTiesHaveTheBitsOfTheStandard() throws {
        let shape = LaunchShape(grid: 1, block: 3)
        let cases: [(UInt32, UInt16)] = [
            (0x3F80_8000, 0x3F80), (0x3F81_8000, 0x3F82), (0x3F80_8001, 0x3F81),
            (0x7F7F_FFFF, 0x7F80), (0x7F7F_7FFF, 0x7F7F), (0xFF7F_FFFF, 0xFF80),
            (0x7F80_0000, 0x7F80), (0xFF80_0000, 0xFF80), (0x0000_8000, 0x0000),
            (0x0000_8001, 0x0001), (0x8000_0000, 0x8000),
        ]
        let values = cases.map { Float(bitPattern: $0.0) }
        #expect(try Self.convert(values, shape) == cases.map(\.1))
    }

    @Test func everyNaNStaysOneAndBecomesQuiet() throws {
        // Payloads only in the lower half would be infinite if cut off, and a full one overflow if rounded.
        let bits: [UInt32] = [0x7F80_0001, 0xFF80_0001, 0x7FC0_0000, 0x7FFF_FFFF, 0xFFFF_FFFF]
        let shape = LaunchShape(grid: 2, block: 2)
        let result = try Self.convert(bits.map(Float.init(bitPattern:)), shape)
        #expect(result == [0x7FC0, 0xFFC0, 0x7FC0, 0x7FFF, 0xFFFF])
    }

    @Test(arguments: LaunchShape.all)
    func everyBFloat16ComesBack(shape: LaunchShape) throws {
        let all = (0...UInt16.max).map { $0 }
        let source = KernelArray(all, misalignment: 1)
        let target = KernelArray([Float](repeating: 0, count: all.count))
        try launch(
            "geeps_bfloat16_to_float", shape, target.start, source.constant, Int64(all.count))
        #expect(target.values.bits == all.map { UInt32($0) << 16 })
        let numbers = target.values.filter { !$0.isNaN }
        let expected = all.filter { $0 & 0x7FFF <= 0x7F80 }
        #expect(try Self.convert(numbers, shape) == expected)
    }

    @Test func noValuesAreNoWork() throws {
        #expect(try Self.convert([], LaunchShape(grid: 1, block: 1)).isEmpty)
    }
}
