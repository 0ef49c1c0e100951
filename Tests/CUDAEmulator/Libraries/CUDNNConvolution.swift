import CGeePSShims

extension CUDAEmulator {
    static func fillConvolutions(_ table: inout geeps_cuda_cudnn) {
        fillAlgorithms(&table)
        fillWorkspaces(&table)
        table.cudnnConvolutionForward = {
            handle, alpha, xLayout, x, wLayout, w, convolution, algorithm, workspace, bytes, beta,
            yLayout, y in
            LibraryCall.run("cudnnConvolutionForward", .cudnn) { call throws(Refusal) in
                try call.convolve(
                    handle, .forward, (xLayout, wLayout, yLayout), convolution,
                    ConvolutionData(x, w, y),
                    algorithm, (workspace, bytes), try call.blend(alpha, beta))
            }
        }
        table.cudnnConvolutionBackwardData = {
            handle, alpha, wLayout, w, dyLayout, dy, convolution, algorithm, workspace, bytes,
            beta, dxLayout, dx in
            LibraryCall.run("cudnnConvolutionBackwardData", .cudnn) { call throws(Refusal) in
                try call.convolve(
                    handle, .data, (dxLayout, wLayout, dyLayout), convolution,
                    ConvolutionData(dx, w, dy),
                    algorithm, (workspace, bytes), try call.blend(alpha, beta))
            }
        }
        table.cudnnConvolutionBackwardFilter = {
            handle, alpha, xLayout, x, dyLayout, dy, convolution, algorithm, workspace, bytes,
            beta, dwLayout, dw in
            LibraryCall.run("cudnnConvolutionBackwardFilter", .cudnn) { call throws(Refusal) in
                try call.convolve(
                    handle, .weights, (xLayout, dwLayout, dyLayout), convolution,
                    ConvolutionData(x, dw, dy),
                    algorithm, (workspace, bytes), try call.blend(alpha, beta))
            }
        }
    }

    private static func fillAlgorithms(_ table: inout geeps_cuda_cudnn) {
        table.cudnnGetConvolutionForwardAlgorithm_v7 = {
            handle, x, w, convolution, y, capacity, count, answers in
            LibraryCall.run("cudnnGetConvolutionForwardAlgorithm_v7", .cudnn) {
                call throws(Refusal) in
                _ = try call.shape(handle, (x, w, y), convolution)
                try call.answer(.forward, capacity, count, answers)
            }
        }
        table.cudnnGetConvolutionBackwardDataAlgorithm_v7 = {
            handle, w, dy, convolution, dx, capacity, count, answers in
            LibraryCall.run("cudnnGetConvolutionBackwardDataAlgorithm_v7", .cudnn) {
                call throws(Refusal) in
                _ = try call.shape(handle, (dx, w, dy), convolution)
                try call.answer(.data, capacity, count, answers)
            }
        }
        table.cudnnGetConvolutionBackwardFilterAlgorithm_v7 = {
            handle, x, dy, convolution, dw, capacity, count, answers in
            LibraryCall.run("cudnnGetConvolutionBackwardFilterAlgorithm_v7", .cudnn) {
                call throws(Refusal) in
                _ = try call.shape(handle, (x, dw, dy), convolution)
                try call.answer(.weights, capacity, count, answers)
            }
        }
    }

    private static func fillWorkspaces(_ table: inout geeps_cuda_cudnn) {
        table.cudnnGetConvolutionForwardWorkspaceSize = {
            handle, x, w, convolution, y, algorithm, bytes in
            LibraryCall.run("cudnnGetConvolutionForwardWorkspaceSize", .cudnn) {
                call throws(Refusal) in
                let shape = try call.shape(handle, (x, w, y), convolution)
                bytes?.pointee = try call.workspaceBytes(.forward, algorithm, shape)
            }
        }
        table.cudnnGetConvolutionBackwardDataWorkspaceSize = {
            handle, w, dy, convolution, dx, algorithm, bytes in
            LibraryCall.run("cudnnGetConvolutionBackwardDataWorkspaceSize", .cudnn) {
                call throws(Refusal) in
                let shape = try call.shape(handle, (dx, w, dy), convolution)
                bytes?.pointee = try call.workspaceBytes(.data, algorithm, shape)
            }
        }
        table.cudnnGetConvolutionBackwardFilterWorkspaceSize = {
            handle, x, dy, convolution, dw, algorithm, bytes in
            LibraryCall.run("cudnnGetConvolutionBackwardFilterWorkspaceSize", .cudnn) {
                call throws(Refusal) in
                let shape = try call.shape(handle, (x, dw, dy), convolution)
                bytes?.pointee = try call.workspaceBytes(.weights, algorithm, shape)
            }
        }
    }
}

/// What is computed of a convolution; the other two are given.
private enum ConvolutionPass {
    case forward, data, weights

    /// As the heuristics offer them: what will not do comes first.
    var algorithms: [ConvolutionAlgorithm] {
        let numbers: [Int32] =
            switch self {
            case .forward: [7, 4, 5, 2, 1, 0]
            case .data: [5, 2, 3, 0, 1, 4]
            case .weights: [5, 2, 6, 0, 1, 4]
            }
        return [
            ConvolutionAlgorithm(number: numbers[0], isOffered: false, isSupported: false),
            // What it says it takes is not what it takes.
            ConvolutionAlgorithm(number: numbers[1], estimate: 0, workspaceBytes: 1 << 40),
            ConvolutionAlgorithm(number: numbers[2], isSupported: false),
            ConvolutionAlgorithm(
                number: numbers[3], workspaceBytes: 128, isDeterministic: false),
            ConvolutionAlgorithm(
                number: numbers[4], workspaceBytes: 1000, math: Int32(GEEPS_CUDNN_TENSOR_OP_MATH)),
            ConvolutionAlgorithm(
                number: numbers[5], workspaceBytes: self == .forward ? 0 : 256),
        ]
    }
}

/// Input or its gradient, weights or theirs, output or its gradient.
private struct ConvolutionData {
    let x: UnsafeRawPointer?
    let w: UnsafeRawPointer?
    let y: UnsafeRawPointer?

    init(_ x: UnsafeRawPointer?, _ w: UnsafeRawPointer?, _ y: UnsafeRawPointer?) {
        (self.x, self.w, self.y) = (x, w, y)
    }
}

private struct ConvolutionAlgorithm {
    var number: Int32
    /// Whether the list says that it may be used.
    var isOffered = true
    /// Whether it may.
    var isSupported = true
    var estimate = 64
    var workspaceBytes = 512
    var isDeterministic = true
    var math = Int32(GEEPS_CUDNN_FMA_MATH)

    /// What it needs with a math type: tensor cores want their factors rearranged.
    func workspaceBytes(math: Int32) -> Int {
        workspaceBytes + (math == Int32(GEEPS_CUDNN_FMA_MATH) ? 0 : 4096)
    }
}

/// Sizes of a convolution that fit each other.
private struct ConvolutionShape: Sendable {
    let convolution: ConvolutionDescriptor
    let x: [Int]
    let w: [Int]
    let y: [Int]

    /// `body` with the indexes of every product `x w` that is part of a `y`.
    func forEachProduct(_ body: (_ x: Int, _ w: Int, _ y: Int) -> Void) {
        for image in 0..<y[0] {
            for out in 0..<y[1] {
                for row in 0..<y[2] {
                    for column in 0..<y[3] {
                        window(image, out, row, column, body)
                    }
                }
            }
        }
    }

    private func window(
        _ image: Int, _ out: Int, _ row: Int, _ column: Int, _ body: (Int, Int, Int) -> Void
    ) {
        let steps = convolution.steps
        let target = ((image * y[1] + out) * y[2] + row) * y[3] + column
        for channel in 0..<x[1] {
            for down in 0..<w[2] {
                let h = row * steps.stride[0] + down * steps.dilation[0] - steps.padding[0]
                guard 0..<x[2] ~= h else { continue }
                for right in 0..<w[3] {
                    let v = column * steps.stride[1] + right * steps.dilation[1] - steps.padding[1]
                    guard 0..<x[3] ~= v else { continue }
                    body(
                        ((image * x[1] + channel) * x[2] + h) * x[3] + v,
                        ((out * w[1] + channel) * w[2] + down) * w[3] + right, target)
                }
            }
        }
    }
}

extension LibraryCall {
    fileprivate func shape(
        _ handle: OpaquePointer?,
        _ layouts: (x: OpaquePointer?, w: OpaquePointer?, y: OpaquePointer?),
        _ convolution: OpaquePointer?
    ) throws(Refusal) -> ConvolutionShape {
        _ = try own(handle) as CUDNNHandle
        let convolution: ConvolutionDescriptor = try get(convolution)
        let x: TensorDescriptor = try get(layouts.x)
        let w: FilterDescriptor = try get(layouts.w)
        let y: TensorDescriptor = try get(layouts.y)
        try require(
            w.sizes[1] == x.c, "weights are \(w.sizes) and the input is \(x.sizes)")
        let expected =
            [x.n, w.sizes[0]]
            + [0, 1].map {
                convolution.steps.positions($0, over: x.sizes[2 + $0], size: w.sizes[2 + $0])
            }
        try require(y.sizes == expected, "the output is \(y.sizes), expected \(expected)")
        return ConvolutionShape(convolution: convolution, x: x.sizes, w: w.sizes, y: y.sizes)
    }

    fileprivate func answer(
        _ pass: ConvolutionPass, _ capacity: Int32, _ count: UnsafeMutablePointer<Int32>?,
        _ answers: UnsafeMutablePointer<geeps_cudnn_algorithm>?
    ) throws(Refusal) {
        guard let count, let answers, capacity > 0 else { throw refuse("no room for answers") }
        let found = pass.algorithms.prefix(Int(capacity))
        for (index, algorithm) in found.enumerated() {
            answers[index] = geeps_cudnn_algorithm(
                algorithm: algorithm.number,
                status: algorithm.isOffered ? 0 : statuses.notSupported, time: -1,
                workspace_bytes: algorithm.estimate,
                determinism: algorithm.isDeterministic ? 1 : 0, math_type: algorithm.math,
                reserved: (0, 0, 0))
        }
        count.pointee = Int32(found.count)
    }

    fileprivate func workspaceBytes(
        _ pass: ConvolutionPass, _ number: Int32, _ shape: ConvolutionShape
    ) throws(Refusal) -> Int {
        guard let algorithm = pass.algorithms.first(where: { $0.number == number }),
            algorithm.isSupported
        else {
            // No finding: to be asked and told so is what a program must expect.
            objects.lastError = "algorithm \(number) does not do it"
            throw Refusal(status: statuses.notSupported)
        }
        return algorithm.workspaceBytes(math: shape.convolution.math)
    }

    fileprivate func convolve(
        _ handle: OpaquePointer?, _ pass: ConvolutionPass,
        _ layouts: (x: OpaquePointer?, w: OpaquePointer?, y: OpaquePointer?),
        _ convolution: OpaquePointer?,
        _ data: ConvolutionData,
        _ algorithm: Int32, _ scratch: (start: UnsafeMutableRawPointer?, bytes: Int),
        _ blend: Blend
    ) throws(Refusal) {
        let shape = try shape(handle, layouts, convolution)
        let needed: Int
        do throws(Refusal) {
            needed = try workspaceBytes(pass, algorithm, shape)
        } catch {
            throw refuse("algorithm \(algorithm) does not do it", status: error.status)
        }
        try require(
            scratch.bytes >= needed,
            "a workspace of \(scratch.bytes) bytes, algorithm \(algorithm) needs \(needed)")
        let workspace =
            scratch.bytes == 0
            ? nil : try values(scratch.start, scratch.bytes / 4, "workspace")
        let x = try values(data.x, shape.x.reduce(1, *), "x")
        let w = try values(data.w, shape.w.reduce(1, *), "w")
        let y = try values(data.y, shape.y.reduce(1, *), "y")
        let (reads, target) =
            switch pass {
            case .forward: ([x, w], y)
            case .data: ([w, y], x)
            case .weights: ([x, y], w)
            }
        if let workspace, workspace.bytes.overlaps(target.bytes) {
            throw refuse("the workspace overlaps the result")
        }
        let rounding: Rounding =
            shape.convolution.math == Int32(GEEPS_CUDNN_FMA_MATH) ? .none : .tf32
        try put(
            try own(handle) as CUDNNHandle, reads: reads,
            writes: [target] + (workspace.map { [$0] } ?? []),
            changed: blend.changed(target)
        ) {
            workspace?.scribble()
            let factors = (rounding.copy(reads[0]), rounding.copy(reads[1]))
            let sums = shape.sums(
                pass, factors.0.values.start, factors.1.values.start, target.count)
            blend.store(sums, target)
            workspace?.scribble()
        }
        objects.note(
            CUDAProduct(
                function: function, math: shape.convolution.math, algorithm: algorithm))
    }
}

extension ConvolutionShape {
    /// Sums of products of the two that are given, in the order of `LibraryCall.convolve`.
    fileprivate func sums(
        _ pass: ConvolutionPass, _ first: UnsafePointer<Float>, _ second: UnsafePointer<Float>,
        _ count: Int
    ) -> [Double] {
        var sums = [Double](repeating: 0, count: count)
        sums.withUnsafeMutableBufferPointer { buffer in
            guard let sums = buffer.baseAddress else { return }
            switch pass {
            case .forward:
                forEachProduct { sums[$2] += Double(first[$0]) * Double(second[$1]) }
            case .data:
                forEachProduct { sums[$0] += Double(first[$1]) * Double(second[$2]) }
            case .weights:
                forEachProduct { sums[$1] += Double(first[$0]) * Double(second[$2]) }
            }
        }
        return sums
    }
}
