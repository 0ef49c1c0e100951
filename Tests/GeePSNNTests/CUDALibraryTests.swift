import CGeePSShims
import CUDAEmulator
import GeePSDevice
import Testing

@testable import GeePSNN

/// The emulated cuBLAS and cuDNN themselves, as far as no layer shows them.
@Suite struct CUDALibraryTests {
    /// Functions, and device memory that a test may look into.
    private final class Machine {
        let emulator: CUDAEmulator
        let device: CUDADevice
        let stream: CUDAStream
        let cudnn: geeps_cuda_cudnn
        let cublas: geeps_cuda_cublas
        private(set) var dnn: geeps_cudnn?
        private(set) var blas: geeps_cublas?
        private var tensors: [geeps_cudnn_tensor?] = []

        init(_ emulator: CUDAEmulator) throws {
            self.emulator = emulator
            device = try emulator.makeDevice(limitBytes: 1 << 20)
            stream = try device.makeCUDAStream(name: "library")
            (cudnn, cublas) = (emulator.cudnn, emulator.cublas)
            try device.makeCurrent()
            #expect(cudnn.cudnnCreate(&dnn) == 0)
            #expect(cudnn.cudnnSetStream(dnn, stream.handle) == 0)
            #expect(cublas.cublasCreate_v2(&blas) == 0)
            #expect(cublas.cublasSetStream_v2(blas, stream.handle) == 0)
        }

        deinit {
            for tensor in tensors { _ = cudnn.cudnnDestroyTensorDescriptor(tensor) }
            _ = cudnn.cudnnDestroy(dnn)
            _ = cublas.cublasDestroy_v2(blas)
        }

        func array(_ values: [Float]) throws -> SharedBuffer {
            let memory = SharedBuffer(
                try device.allocate(byteCount: values.count * 4, for: .localData))
            memory.floats.update(from: values, count: values.count)
            return memory
        }

        func read(_ memory: SharedBuffer, _ count: Int) throws -> [Float] {
            try stream.synchronise()
            return Array(UnsafeBufferPointer(start: memory.floats, count: count))
        }

        func tensor(_ n: Int32, _ c: Int32, _ h: Int32, _ w: Int32) -> geeps_cudnn_tensor? {
            var tensor: geeps_cudnn_tensor?
            #expect(cudnn.cudnnCreateTensorDescriptor(&tensor) == 0)
            #expect(cudnn.cudnnSetTensor4dDescriptor(tensor, 0, 0, n, c, h, w) == 0)
            tensors.append(tensor)
            return tensor
        }
    }

    /// Runs `body` and returns what was found.
    private func findings(_ body: (Machine) throws -> Void) throws -> [String] {
        try CUDAEmulator.findings { try body(Machine($0)) }
    }

    // MARK: cuBLAS

    private struct Product {
        var sizes = (m: Int32(3), n: Int32(4), k: Int32(5))
        var operations: (a: Int32, b: Int32) = (0, 0)
        var strides: (a: Int32, b: Int32, c: Int32)
        var factors: (alpha: Float, beta: Float) = (1, 0)

        func run(_ machine: Machine, _ a: SharedBuffer, _ b: SharedBuffer, _ c: SharedBuffer)
            -> Int32
        {
            var factors = factors
            return machine.cublas.cublasGemmEx(
                machine.blas, operations.a, operations.b, sizes.m, sizes.n, sizes.k, &factors.alpha,
                a.address, 0, strides.a, b.address, 0, strides.b, &factors.beta, c.address, 0,
                strides.c, 68, -1)
        }
    }

    @Test(arguments: [Int32(0), 1], [Int32(0), 1])
    func aProductIsThatOfEveryTransposeAndStride(_ a: Int32, _ b: Int32) throws {
        // As they lie in memory: columns of 7, 8 and 6 values, the last ones not the matrix's own.
        let product = Product(operations: (a, b), strides: (7, 8, 6), factors: (2, 0.5))
        let left = randomValues(40, seed: 1)
        let right = randomValues(40, seed: 2)
        let old = randomValues(24, seed: 3)
        let findings = try findings { machine in
            let target = try machine.array(old)
            let status = product.run(
                machine, try machine.array(left), try machine.array(right), target)
            #expect(status == 0)
            // What lies between the columns is another's to write.
            let other = try machine.device.makeStream(name: "other")
            other.fill(target.floats + 3, with: 9, count: 3, label: "")
            try other.synchronise()
            let found = try machine.read(target, 24)
            for column in 0..<4 {
                for row in 0..<3 {
                    let sum = (0..<5).reduce(Float(0)) { sum, index in
                        sum + (a == 0 ? left[row + 7 * index] : left[index + 7 * row])
                            * (b == 0 ? right[index + 8 * column] : right[column + 8 * index])
                    }
                    let place = row + 6 * column
                    #expect(abs(found[place] - (2 * sum + 0.5 * old[place])) < 1e-5)
                }
                #expect(column == 0 || found[6 * column + 3] == old[6 * column + 3])
            }
            #expect(found[3..<6] == [9, 9, 9])
        }
        #expect(findings == [])
    }

    /// The least strides, and one less of each.
    @Test(arguments: [
        (Int32(0), Int32(3), Int32(5), Int32(3), true), (0, 2, 5, 3, false), (0, 3, 4, 3, false),
        (0, 3, 5, 2, false), (1, 5, 4, 3, true), (1, 4, 4, 3, false), (1, 5, 3, 3, false),
    ])
    func aStrideShorterThanAColumnIsRefused(
        _ operation: Int32, _ a: Int32, _ b: Int32, _ c: Int32, isValid: Bool
    ) throws {
        let findings = try findings { machine in
            let arrays = try (0..<3).map { _ in try machine.array([Float](repeating: 0, count: 40))
            }
            let product = Product(operations: (operation, operation), strides: (a, b, c))
            #expect(product.run(machine, arrays[0], arrays[1], arrays[2]) == (isValid ? 0 : 7))
            try machine.stream.synchronise()
        }
        #expect(findings.count == (isValid ? 0 : 1))
        #expect(findings.allSatisfy { $0.hasPrefix("cublasGemmEx: a stride of") })
    }

    @Test func memoryOfAProductThatIsTooShortIsFound() throws {
        let findings = try CUDAEmulator.findings { emulator in
            try Bed.withCompute(emulator) { compute in
                var address: geeps_cu_address = 0
                // A value less than the two factors and the result take.
                #expect(emulator.driver.cuMemAlloc_v2(&address, (64 + 64 + 16 - 1) * 4) == 0)
                defer { _ = emulator.driver.cuMemFree_v2(address) }
                let memory = try #require(UnsafeMutablePointer<Float>(bitPattern: UInt(address)))
                compute.multiply(
                    .cublas("multiply", layer: "short"), m: 4, n: 4, k: 16, a: memory, strideA: 16,
                    transposesA: true, b: memory + 64, strideB: 16, transposesB: false,
                    c: memory + 128)
                let error = #expect(throws: DeviceError.self) { try compute.stream.synchronise() }
                #expect(error?.message.contains("layer short: cuBLAS could not multiply") == true)
            }
        }
        #expect(findings.count == 1)
        #expect(findings.first?.contains("goes beyond") == true)
    }

    // MARK: cuDNN's normalisations and biases

    @Test func aBiasIsAddedToItsChannelAndItsGradientIsSummed() throws {
        let findings = try findings { machine in
            let (cudnn, dnn) = (machine.cudnn, machine.dnn)
            let (image, channels) = (machine.tensor(2, 3, 1, 2), machine.tensor(1, 3, 1, 1))
            let values = try machine.array((0..<12).map(Float.init))
            let bias = try machine.array([10, 20, 30])
            var (one, two) = (Float(1), Float(2))
            #expect(
                cudnn.cudnnAddTensor(dnn, &one, channels, bias.address, &two, image, values.address)
                    == 0)
            #expect(
                try machine.read(values, 12)
                    == [10, 12, 24, 26, 38, 40, 22, 24, 36, 38, 50, 52])
            #expect(
                cudnn.cudnnConvolutionBackwardBias(
                    dnn, &one, image, values.address, &two, channels, bias.address) == 0)
            #expect(try machine.read(bias, 3) == [20 + 68, 40 + 124, 60 + 180])
        }
        #expect(findings == [])
    }

    /// The largest disagreement of a gradient with differences of `sum(weights * forward(values))`.
    private func worst(
        _ values: SharedBuffer, _ gradient: [Float], _ weights: [Float],
        _ forward: () throws -> [Float]
    ) throws -> Double {
        let buffer = UnsafeMutableBufferPointer(start: values.floats, count: gradient.count)
        let found = try GradientChecker().worst(buffer, gradient: gradient, floor: 1e-2) {
            () throws(NNError) in
            guard let output = try? forward() else { throw NNError(.kernel, "forward failed") }
            return zip(output, weights).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }
        return found.error
    }

    @Test(arguments: [UInt32(1), 2, 3, 5])
    func localResponseNormalisationDividesByItsNeighbours(_ size: UInt32) throws {
        let findings = try findings { machine in
            let (cudnn, dnn) = (machine.cudnn, machine.dnn)
            var lrn: geeps_cudnn_lrn?
            #expect(cudnn.cudnnCreateLRNDescriptor(&lrn) == 0)
            defer { _ = cudnn.cudnnDestroyLRNDescriptor(lrn) }
            #expect(cudnn.cudnnSetLRNDescriptor(lrn, size, 0.6, 0.75, 2) == 0)
            let image = machine.tensor(2, 4, 1, 2)
            let values = randomValues(16, seed: 1)
            let (x, y) = (try machine.array(values), try machine.array(values))
            let weights = randomValues(16, seed: 2)
            let (dy, dx) = (try machine.array(weights), try machine.array(values))
            var (one, zero) = (Float(1), Float(0))
            let forward = {
                #expect(
                    cudnn.cudnnLRNCrossChannelForward(
                        dnn, lrn, 0, &one, image, x.address, &zero, image, y.address) == 0)
                return try machine.read(y, 16)
            }
            let output = try forward()
            // Channel 1 of the first image, column 0: of an even number one neighbour more lies above.
            let below = Int(size - 1) / 2
            let neighbours = max(0, 1 - below)..<min(4, 1 - below + Int(size))
            let sum = neighbours.reduce(0.0) { $0 + Double(values[2 * $1] * values[2 * $1]) }
            let scale = 2 + 0.6 / Double(size) * sum
            #expect(abs(Double(output[2]) - Double(values[2]) / powerOfThreeQuarters(scale)) < 1e-6)
            #expect(
                cudnn.cudnnLRNCrossChannelBackward(
                    dnn, lrn, 0, &one, image, y.address, image, dy.address, image, x.address, &zero,
                    image, dx.address) == 0)
            let error = try worst(x, try machine.read(dx, 16), weights, forward)
            #expect(error < 2e-3)
        }
        #expect(findings == [])
    }

    private func powerOfThreeQuarters(_ x: Double) -> Double {
        let root = x.squareRoot()
        return root * root.squareRoot()
    }

    @Test func batchNormalisationHasTheMomentsOfItsParameters() throws {
        let findings = try findings { machine in
            let (cudnn, dnn) = (machine.cudnn, machine.dnn)
            let (image, channels) = (machine.tensor(4, 2, 1, 3), machine.tensor(1, 2, 1, 1))
            let values = randomValues(24, seed: 1).map { 2 * $0 + 0.5 }
            let (x, y) = (try machine.array(values), try machine.array(values))
            let (scale, bias) = (try machine.array([2, 0.5]), try machine.array([1, -1]))
            let (mean, variance) = (try machine.array([0, 0]), try machine.array([1, 1]))
            let (savedMean, savedInverse) = (try machine.array([0, 0]), try machine.array([0, 0]))
            var (one, zero) = (Float(1), Float(0))
            let forward = {
                #expect(
                    cudnn.cudnnBatchNormalizationForwardTraining(
                        dnn, 1, &one, &zero, image, x.address, image, y.address, channels,
                        scale.address, bias.address, 0.25, mean.address, variance.address, 1e-5,
                        savedMean.address, savedInverse.address) == 0)
                return try machine.read(y, 24)
            }
            let moments = { (values: [Float], channel: Int) -> (mean: Double, variance: Double) in
                let own = values.indices.filter { $0 / 3 % 2 == channel }.map { Double(values[$0]) }
                let mean = own.reduce(0, +) / 12
                return (mean, own.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 12)
            }
            let output = try forward()
            for (channel, expected) in [(2.0, 1.0), (0.5, -1.0)].enumerated() {
                let (input, found) = (moments(values, channel), moments(output, channel))
                #expect(abs(found.mean - expected.1) < 1e-5)
                #expect(abs(found.variance - expected.0 * expected.0) < 1e-3)
                #expect(abs(Double(mean.floats[channel]) - 0.25 * input.mean) < 1e-5)
                // Running statistics are the sample's.
                let running = 0.75 + 0.25 * input.variance * 12 / 11
                #expect(abs(Double(variance.floats[channel]) - running) < 1e-5)
            }
            let weights = randomValues(24, seed: 2)
            let (dy, dx) = (try machine.array(weights), try machine.array(values))
            let (dScale, dBias) = (try machine.array([0, 0]), try machine.array([0, 0]))
            #expect(
                cudnn.cudnnBatchNormalizationBackward(
                    dnn, 1, &one, &zero, &one, &zero, image, x.address, image, dy.address, image,
                    dx.address, channels, scale.address, dScale.address, dBias.address, 1e-5,
                    savedMean.address, savedInverse.address) == 0)
            let gradients = (
                try machine.read(dx, 24), try machine.read(dScale, 2), try machine.read(dBias, 2)
            )
            #expect(try worst(x, gradients.0, weights, forward) < 2e-3)
            #expect(try worst(scale, gradients.1, weights, forward) < 2e-3)
            #expect(try worst(bias, gradients.2, weights, forward) < 2e-3)
            // With the batch's own statistics inference is the same as training.
            for channel in 0..<2 {
                mean.floats[channel] = Float(moments(values, channel).mean)
                variance.floats[channel] = Float(moments(values, channel).variance)
            }
            #expect(
                cudnn.cudnnBatchNormalizationForwardInference(
                    dnn, 1, &one, &zero, image, x.address, image, dx.address, channels,
                    scale.address, bias.address, mean.address, variance.address, 1e-5) == 0)
            #expect(relativeError(try machine.read(dx, 24), output) < 1e-6)
        }
        #expect(findings == [])
    }

    // MARK: Lives of handles

    @Test func aDescriptorThatIsDeadWrongOrNeverSetIsFound() throws {
        let findings = try findings { machine in
            let (cudnn, dnn) = (machine.cudnn, machine.dnn)
            let image = machine.tensor(1, 1, 2, 2)
            let memory = try machine.array([1, 2, 3, 4])
            var (one, zero) = (Float(1), Float(0))
            let run = { (activation: geeps_cudnn_activation?) in
                cudnn.cudnnActivationForward(
                    dnn, activation, &one, image, memory.address, &zero, image, memory.address)
            }
            var activation: geeps_cudnn_activation?
            #expect(cudnn.cudnnCreateActivationDescriptor(&activation) == 0)
            #expect(run(activation) == 2000)
            #expect(cudnn.cudnnSetActivationDescriptor(activation, 1, 1, 0) == 0)
            #expect(run(activation) == 0)
            #expect(run(image) == 2000)
            #expect(run(nil) == 2000)
            #expect(cudnn.cudnnDestroyActivationDescriptor(activation) == 0)
            #expect(run(activation) == 2000)
            #expect(cudnn.cudnnDestroyActivationDescriptor(activation) == 2000)
            try machine.stream.synchronise()
        }
        let name = "cudnnActivationForward: "
        let wanted = name + "expected an activation's descriptor, found "
        #expect(
            findings == [
                name + "an activation's descriptor was never set",
                wanted + "a tensor's descriptor", wanted + "null",
                wanted + "an activation's descriptor that was destroyed",
                "cudnnDestroyActivationDescriptor: expected an activation's descriptor, found "
                    + "an activation's descriptor that was destroyed",
            ])
    }

    @Test func whatIsLeftAtTheEndIsFound() throws {
        let findings = try findings { machine in
            var filter: geeps_cudnn_filter?
            #expect(machine.cudnn.cudnnCreateFilterDescriptor(&filter) == 0)
            var handle: geeps_cublas?
            #expect(machine.cublas.cublasCreate_v2(&handle) == 0)
        }
        #expect(
            findings == [
                "leak: a filter's descriptor was never destroyed",
                "leak: a handle of cuBLAS was never destroyed",
            ])
    }

    @Test func aHandleBelongsToTheContextItWasMadeIn() throws {
        var configuration = CUDAEmulator.Configuration()
        configuration.deviceCount = 2
        let findings = try CUDAEmulator.findings(configuration) { emulator in
            let machine = try Machine(emulator)
            let other = try emulator.makeDevice(ordinal: 1, limitBytes: 1 << 20)
            try other.makeCurrent()
            #expect(machine.cudnn.cudnnSetStream(machine.dnn, machine.stream.handle) == 2000)
            #expect(machine.cublas.cublasSetStream_v2(machine.blas, machine.stream.handle) == 7)
            try machine.device.makeCurrent()
            #expect(machine.cudnn.cudnnSetStream(machine.dnn, machine.stream.handle) == 0)
        }
        #expect(
            findings == [
                "cudnnSetStream: a handle of cuDNN was made in another context than the current",
                "cublasSetStream_v2: a handle of cuBLAS was made in another context than the current",
            ])
    }

    // MARK: Arguments that do not fit

    @Test func aWorkspaceThatIsTooSmallOrTheResultsIsFound() throws {
        let findings = try findings { machine in
            let (cudnn, dnn) = (machine.cudnn, machine.dnn)
            let image = machine.tensor(1, 1, 2, 2)
            var filter: geeps_cudnn_filter?
            #expect(cudnn.cudnnCreateFilterDescriptor(&filter) == 0)
            #expect(cudnn.cudnnSetFilter4dDescriptor(filter, 0, 0, 1, 1, 1, 1) == 0)
            var convolution: geeps_cudnn_convolution?
            #expect(cudnn.cudnnCreateConvolutionDescriptor(&convolution) == 0)
            #expect(
                cudnn.cudnnSetConvolution2dDescriptor(convolution, 0, 0, 1, 1, 1, 1, 1, 0) == 0)
            #expect(
                cudnn.cudnnSetConvolutionMathType(convolution, Int32(GEEPS_CUDNN_FMA_MATH)) == 0)
            defer {
                _ = cudnn.cudnnDestroyFilterDescriptor(filter)
                _ = cudnn.cudnnDestroyConvolutionDescriptor(convolution)
            }
            let (x, w) = (try machine.array([1, 2, 3, 4]), try machine.array([5]))
            let y = try machine.array([0, 0, 0, 0])
            let workspace = try machine.array([Float](repeating: 0, count: 300))
            var bytes = 0
            #expect(
                cudnn.cudnnGetConvolutionForwardWorkspaceSize(
                    dnn, image, filter, convolution, image, 1, &bytes) == 0)
            var (one, zero) = (Float(1), Float(0))
            let run = { (algorithm: Int32, place: SharedBuffer, bytes: Int) in
                cudnn.cudnnConvolutionForward(
                    dnn, &one, image, x.address, filter, w.address, convolution, algorithm,
                    place.address, bytes, &zero, image, y.address)
            }
            #expect(run(1, workspace, bytes - 1) == 2000)
            #expect(run(1, y, bytes) == 2000)
            #expect(run(7, workspace, bytes) == 3000)
            // Its workspace is written to the last byte that was promised.
            #expect(run(1, workspace, 1200) == 0)
            #expect(try machine.read(y, 4) == [5, 10, 15, 20])
            #expect(try machine.read(workspace, 300).allSatisfy { $0.isNaN })
        }
        let name = "cudnnConvolutionForward: "
        #expect(
            findings == [
                name + "a workspace of 999 bytes, algorithm 1 needs 1000",
                name + "the workspace overlaps the result",
                name + "algorithm 7 does not do it",
            ])
    }

    @Test func onlyAnActivationMayWriteOverWhatItReads() throws {
        let findings = try findings { machine in
            let image = machine.tensor(1, 1, 2, 2)
            let memory = try machine.array([1, -2, 3, 4, 5])
            var (one, zero) = (Float(1), Float(0))
            var activation: geeps_cudnn_activation?
            #expect(machine.cudnn.cudnnCreateActivationDescriptor(&activation) == 0)
            defer { _ = machine.cudnn.cudnnDestroyActivationDescriptor(activation) }
            #expect(machine.cudnn.cudnnSetActivationDescriptor(activation, 1, 1, 0) == 0)
            let run = { (target: UnsafeMutablePointer<Float>) in
                machine.cudnn.cudnnActivationForward(
                    machine.dnn, activation, &one, image, memory.address, &zero, image, target)
            }
            #expect(run(memory.floats) == 0)
            #expect(try machine.read(memory, 4) == [1, 0, 3, 4])
            #expect(run(memory.floats + 1) == 2000)
            var pooling: geeps_cudnn_pooling?
            #expect(machine.cudnn.cudnnCreatePoolingDescriptor(&pooling) == 0)
            defer { _ = machine.cudnn.cudnnDestroyPoolingDescriptor(pooling) }
            #expect(
                machine.cudnn.cudnnSetPooling2dDescriptor(pooling, 3, 1, 1, 1, 0, 0, 1, 1) == 0)
            #expect(
                machine.cudnn.cudnnPoolingForward(
                    machine.dnn, pooling, &one, image, memory.address, &zero, image, memory.address)
                    == 2000)
        }
        #expect(findings.count == 2)
        #expect(findings.allSatisfy { $0.contains("which overlap") })
    }
}
