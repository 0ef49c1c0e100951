import CGeePSKernels
import Testing

/// Rows of `width` in arrays that start `misalignment` values after an aligned address.
struct RowCase: CustomStringConvertible, Sendable {
    var count: Int
    var width: Int
    var misalignment: Int

    var description: String { "\(count) rows of \(width), \(misalignment) off" }

    static let all = [0, 1, 5, 90].flatMap { count in
        [1, 3, 4, 5, 64, 100].flatMap { width in
            [0, 1, 2].map { RowCase(count: count, width: width, misalignment: $0) }
        }
    }
}

@Suite("CUDA Row Kernels") struct CUDARowKernelTests {
    static let sourceRows = 200

    @Test(arguments: RowCase.all, LaunchShape.all)
    func gatherTakesEachRowFromItsIndex(rows: RowCase, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 1)
        let width = rows.width
        // Only one of the two arrays is off, in turn: both must be aligned for wide accesses.
        let source = KernelArray(
            numbers.floats(Self.sourceRows * width), misalignment: rows.misalignment % 2)
        let index = KernelArray(numbers.indices(rows.count, below: Self.sourceRows))
        let target = KernelArray(
            [Float](repeating: 7, count: rows.count * width), misalignment: rows.misalignment / 2)
        try launch(
            "geeps_gather_rows", shape, target.start, source.constant, index.constant,
            Int64(rows.count), Int64(width))
        let expected = index.values.flatMap { row in
            (0..<width).map { source.start[Int(row) * width + $0] }
        }
        #expect(target.values.bits == expected.bits)
        var host = target.values
        geeps_kernels_best().pointee.gather_rows(
            &host, source.start, index.start, Int64(rows.count), Int64(width))
        #expect(host.bits == expected.bits)
    }

    @Test(arguments: RowCase.all, LaunchShape.all)
    func scatterPutsEachRowInItsPlace(rows: RowCase, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 2)
        let width = rows.width
        let source = KernelArray(
            numbers.floats(rows.count * width), misalignment: rows.misalignment % 2)
        let index = KernelArray(numbers.differentIndices(rows.count, below: 100))
        let before = numbers.floats(100 * width)
        let target = KernelArray(before, misalignment: rows.misalignment / 2)
        try launch(
            "geeps_scatter_rows", shape, target.start, source.constant, index.constant,
            Int64(rows.count), Int64(width))
        var expected = before
        for (row, place) in index.values.enumerated() {
            for k in 0..<width { expected[Int(place) * width + k] = source.start[row * width + k] }
        }
        #expect(target.values.bits == expected.bits)
        var host = before
        geeps_kernels_best().pointee.scatter_rows(
            &host, source.start, index.start, Int64(rows.count), Int64(width))
        #expect(host.bits == expected.bits)
    }

    @Test(arguments: RowCase.all, LaunchShape.all)
    func scatterAddAddsToEachRowInItsPlace(rows: RowCase, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 3)
        let index = numbers.differentIndices(rows.count, below: 100)
        let (result, expected) = try scatterAdd(
            rows, shape, index, source: numbers.floats(rows.count * rows.width),
            before: numbers.floats(100 * rows.width))
        #expect(result.bits == expected.bits)
    }

    // Over whole numbers, whose sums are exact: the order among threads is open.
    @Test(arguments: RowCase.all, LaunchShape.all)
    func scatterAddAddsEveryOccurrenceOfARepeatedIndex(
        rows: RowCase, shape: LaunchShape
    ) throws {
        var numbers = TestNumbers(seed: 4)
        let index = numbers.indices(rows.count, below: 7)
        let (result, expected) = try scatterAdd(
            rows, shape, index, source: numbers.wholeFloats(rows.count * rows.width),
            before: numbers.wholeFloats(7 * rows.width))
        #expect(result == expected)
    }

    @Test(arguments: ["geeps_gather_rows", "geeps_scatter_rows", "geeps_scatter_add_rows"])
    func rowsOfNoWidthAreNoWork(kernel: String) throws {
        let array = KernelArray<Float>([1, 2, 3])
        let other = KernelArray<Float>([4, 5, 6])
        let index = KernelArray<UInt32>([0, 0])
        try launch(
            kernel, LaunchShape(grid: 2, block: 3), array.start, other.constant, index.constant,
            Int64(2), Int64(0))
        #expect(array.values == [1, 2, 3])
    }

    /// What the text makes of it, and the plain loop, which the host's table has to agree with.
    private func scatterAdd(
        _ rows: RowCase, _ shape: LaunchShape, _ index: [UInt32], source: [Float], before: [Float]
    ) throws -> (result: [Float], expected: [Float]) {
        let width = rows.width
        let source = KernelArray(source, misalignment: rows.misalignment % 2)
        let indices = KernelArray(index)
        let target = KernelArray(before, misalignment: rows.misalignment / 2)
        try launch(
            "geeps_scatter_add_rows", shape, target.start, source.constant, indices.constant,
            Int64(rows.count), Int64(width))
        var expected = before
        for (row, place) in index.enumerated() {
            for k in 0..<width { expected[Int(place) * width + k] += source.start[row * width + k] }
        }
        var host = before
        geeps_kernels_best().pointee.scatter_add_rows(
            &host, source.start, index, Int64(rows.count), Int64(width))
        #expect(host.bits == expected.bits)
        return (target.values, expected)
    }
}
