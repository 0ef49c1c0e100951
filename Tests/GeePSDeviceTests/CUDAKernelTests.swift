import CGeePSKernels
import Testing

@Suite("CUDA Kernels") struct CUDAKernelTests {
    static let counts = [0, 1, 2, 31, 64, 1003]

    @Test func everyKernelOfTheTextHasItsNameAndAHostBuild() throws {
        var names: [String] = []
        while let name = geeps_cuda_kernel_name(Int32(names.count)) {
            names.append(String(cString: name))
        }
        let text = String(cString: geeps_cuda_source())
        let inText = text.matches(
            of: #/\nGEEPS_KERNEL (?:GEEPS_NAME\(([a-z0-9_]+)\)|geeps_([a-z0-9_]+))\(/#
        ).map { "geeps_" + String($0.output.1 ?? $0.output.2!) }
        #expect(names.count == 23)
        #expect(Set(inText) == Set(names) && inText.count == names.count)
        for name in names { #expect(geeps_cuda_kernel_on_host(name) != nil, "\(name)") }
        #expect(geeps_cuda_kernel_on_host("geeps_") == nil)
        #expect(geeps_cuda_kernel_name(-1) == nil)
    }

    @Test(arguments: counts, LaunchShape.all)
    func elementwiseKernelsAreThePlainLoops(count: Int, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 5)
        let a = numbers.floats(count)
        let b = numbers.floats(count)
        let second = KernelArray(b, misalignment: 1)
        let host = geeps_kernels_best().pointee
        let n = Int64(count)
        func expect(
            _ expected: [Float], _ run: (UnsafeMutablePointer<Float>) throws -> Void,
            _ runHost: (UnsafeMutablePointer<Float>) -> Void
        ) rethrows {
            let target = KernelArray(a, misalignment: 1)
            try run(target.start)
            #expect(target.values.bits == expected.bits)
            let hostTarget = KernelArray(a)
            runHost(hostTarget.start)
            #expect(hostTarget.values.bits == expected.bits)
        }
        try expect(b) {
            try launch("geeps_copy", shape, $0, second.constant, n)
        } _: {
            host.copy($0, second.start, n)
        }
        try expect(a.map { _ in 1.5 }) {
            try launch("geeps_fill", shape, $0, Float(1.5), n)
        } _: {
            host.fill($0, 1.5, n)
        }
        try expect(zip(a, b).map(+)) {
            try launch("geeps_add", shape, $0, second.constant, n)
        } _: {
            host.add($0, second.start, n)
        }
        try expect(a.map { $0 * 0.3 }) {
            try launch("geeps_scale", shape, $0, Float(0.3), n)
        } _: {
            host.scale($0, 0.3, n)
        }
        let third = KernelArray(a)
        try expect(zip(a, b).map(+)) {
            try launch("geeps_sum_of_two", shape, $0, third.constant, second.constant, n)
        } _: {
            host.sum_of_two($0, third.start, second.start, n)
        }
    }

    // A thread of the host has its own indices of threads.
    @Test func launchesOnSeveralThreadsDoNotMeet() async throws {
        let isRight = try await withThrowingTaskGroup(of: Bool.self) { group in
            for task in 0..<4 {
                group.addTask { @concurrent in
                    let target = KernelArray([Float](repeating: 0, count: 5000))
                    for _ in 0..<50 {
                        try launch(
                            "geeps_fill", LaunchShape(grid: 9, block: 60 + UInt32(task)),
                            target.start, Float(task), Int64(target.count))
                        guard target.values.allSatisfy({ $0 == Float(task) }) else { return false }
                    }
                    return true
                }
            }
            return try await group.allSatisfy(\.self)
        }
        #expect(isRight)
    }
}
