import CGeePSKernels
import Testing

/// Kernels by level; a level that this processor has not is left out.
let kernelLevels: [UInt32] = [geeps_level_baseline, geeps_level_v3, geeps_level_v4].map(\.rawValue)
    .filter { geeps_kernels_at(geeps_level($0)) != nil }

func kernels(_ level: UInt32) -> UnsafePointer<geeps_kernels> {
    geeps_kernels_at(geeps_level(level)) ?? geeps_kernels_best()
}

@Suite("Kernels") struct KernelTests {
    static let widths = [1, 3, 16, 64, 100, 128, 129]

    @Test(arguments: kernelLevels, widths)
    func gatherTakesEachRowFromItsIndex(level: UInt32, width: Int) {
        var numbers = TestNumbers(seed: 1)
        for count in [0, 1, 5, 300, 700] {
            let source = numbers.floats(200 * width)
            let index = numbers.indices(count, below: 200)
            var target = [Float](repeating: 7, count: count * width + 1)
            kernels(level).pointee.gather_rows(&target, source, index, Int64(count), Int64(width))
            var expected = target
            for row in 0..<count {
                for k in 0..<width {
                    expected[row * width + k] = source[Int(index[row]) * width + k]
                }
            }
            expected[count * width] = 7
            #expect(target.bits == expected.bits)
        }
    }

    @Test(arguments: kernelLevels)
    func gatherOfManyRowsStreamsTheSameValues(level: UInt32) {
        let width = 128
        let count = 20_000  // over the streaming threshold
        let source = (0..<(64 * width)).map(Float.init)
        var numbers = TestNumbers(seed: 2)
        let index = numbers.indices(count, below: 64)
        for misalignment in [0, 1] {
            let target = UnsafeMutableRawPointer.allocate(
                byteCount: (count * width + 16) * 4, alignment: 64
            ).bindMemory(to: Float.self, capacity: count * width + 16)
            defer { target.deallocate() }
            let start = target + misalignment
            kernels(level).pointee.gather_rows(start, source, index, Int64(count), Int64(width))
            let wrong = (0..<(count * width)).count {
                start[$0] != source[Int(index[$0 / width]) * width + $0 % width]
            }
            #expect(wrong == 0)
        }
    }

    @Test(arguments: kernelLevels, widths)
    func scatterPutsTheLastOfARepeatedIndex(level: UInt32, width: Int) {
        var numbers = TestNumbers(seed: 3)
        for count in [0, 1, 5, 300, 700] {
            let source = numbers.floats(count * width + 1)
            let index = numbers.indices(count, below: 50)
            var target = numbers.floats(50 * width)
            var expected = target
            for row in 0..<count {
                for k in 0..<width {
                    expected[Int(index[row]) * width + k] = source[row * width + k]
                }
            }
            kernels(level).pointee.scatter_rows(&target, source, index, Int64(count), Int64(width))
            #expect(target.bits == expected.bits)
        }
    }

    @Test(arguments: kernelLevels, widths)
    func scatterAddAddsEveryOccurrenceInOrder(level: UInt32, width: Int) {
        var numbers = TestNumbers(seed: 4)
        for count in [0, 1, 5, 300, 700] {
            let source = numbers.floats(count * width + 1)
            let index = numbers.indices(count, below: 50)
            var target = numbers.floats(50 * width)
            var expected = target
            for row in 0..<count {
                for k in 0..<width {
                    expected[Int(index[row]) * width + k] += source[row * width + k]
                }
            }
            kernels(level).pointee.scatter_add_rows(
                &target, source, index, Int64(count), Int64(width))
            #expect(target.bits == expected.bits)
        }
    }

    @Test(arguments: kernelLevels, [0, 1, 15, 16, 17, 1003])
    func elementwiseKernelsAreThePlainLoops(level: UInt32, count: Int) {
        var numbers = TestNumbers(seed: 5)
        let a = numbers.floats(count + 1)
        let b = numbers.floats(count + 1)
        let kernels = kernels(level)
        let n = Int64(count)
        func expect(
            _ operation: (Float, Float) -> Float,
            _ run: (UnsafeMutablePointer<Float>) -> Void
        ) {
            var target = a
            run(&target)
            let expected = zip(a, b).enumerated().map { index, pair in
                index < count ? operation(pair.0, pair.1) : pair.0
            }
            #expect(target.bits == expected.bits)
        }
        expect { _, b in
            b
        } _: {
            kernels.pointee.copy($0, b, n)
        }
        expect { _, _ in
            1.5
        } _: {
            kernels.pointee.fill($0, 1.5, n)
        }
        expect { a, b in
            a + b
        } _: {
            kernels.pointee.add($0, b, n)
        }
        expect { a, _ in
            a * 0.3
        } _: {
            kernels.pointee.scale($0, 0.3, n)
        }
        expect { _, b in
            b + b
        } _: {
            kernels.pointee.sum_of_two($0, b, b, n)
        }
    }

    @Test(arguments: [0, 1, 31, 32, 33, 100_003])
    func squaredNormIsTheSameAtEveryLevelAndNearTheTruth(count: Int) {
        var numbers = TestNumbers(seed: 6)
        let values = numbers.floats(count)
        let truth = values.reduce(0.0) { $0 + Double($1) * Double($1) }
        let norms = kernelLevels.map { kernels($0).pointee.squared_norm(values, Int64(count)) }
        #expect(Set(norms.map(\.bitPattern)).count == 1)
        #expect(abs(norms[0] - truth) <= 1e-12 * max(1, truth))
    }

    @Test func theBestLevelIsTheHighestThisProcessorHas() {
        #expect(geeps_kernels_best().pointee.level.rawValue == kernelLevels.max())
        for level in kernelLevels { #expect(kernels(level).pointee.level.rawValue == level) }
        #expect(geeps_kernels_at(geeps_level(9)) == nil)
    }
}
