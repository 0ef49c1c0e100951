import CGeePSShims

extension CUDAEmulator {
    static func fillPooling(_ table: inout geeps_cuda_cudnn) {
        table.cudnnSetPooling2dDescriptor = {
            handle, mode, _, windowH, windowW, paddingH, paddingW, strideH, strideW in
            LibraryCall.run("cudnnSetPooling2dDescriptor", .cudnn) { call throws(Refusal) in
                try call.requireSupport(0...3 ~= mode, "mode \(mode)")
                try call.require(
                    min(windowH, windowW, strideH, strideW) > 0
                        && 0..<windowH ~= paddingH && 0..<windowW ~= paddingW,
                    "a window of \(windowH), \(windowW) with padding \(paddingH), \(paddingW) "
                        + "and stride \(strideH), \(strideW)")
                let steps = WindowSteps(
                    padding: [Int(paddingH), Int(paddingW)], stride: [Int(strideH), Int(strideW)])
                try call.set(
                    handle,
                    PoolingDescriptor(
                        mode: mode, window: [Int(windowH), Int(windowW)], steps: steps))
            }
        }
        table.cudnnPoolingForward = {
            handle, pooling, alpha, xLayout, x, beta, yLayout, y in
            LibraryCall.run("cudnnPoolingForward", .cudnn) { call throws(Refusal) in
                let windows = try call.windows(
                    pooling, try call.tensor(xLayout, x, "x"), try call.tensor(yLayout, y, "y"))
                let blend = try call.blend(alpha, beta)
                let (x, y) = (windows.x.values, windows.y.values)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x], writes: [y],
                    changed: blend.changed(y)
                ) {
                    windows.forEach { target, sources in
                        blend.store(windows.value(of: sources), y.start + target)
                    }
                }
            }
        }
        table.cudnnPoolingBackward = {
            handle, pooling, alpha, yLayout, y, dyLayout, dy, xLayout, x, beta, dxLayout, dx in
            LibraryCall.run("cudnnPoolingBackward", .cudnn) { call throws(Refusal) in
                let windows = try call.windows(
                    pooling, try call.tensor(xLayout, x, "x"), try call.tensor(yLayout, y, "y"))
                let dy = try call.tensor(dyLayout, dy, "dy", like: windows.y.sizes).values
                let dx = try call.tensor(dxLayout, dx, "dx", like: windows.x.sizes).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle,
                    reads: [windows.x.values, windows.y.values, dy], writes: [dx],
                    changed: blend.changed(dx)
                ) {
                    var sums = [Double](repeating: 0, count: dx.count)
                    windows.forEach { target, sources in
                        for (source, share) in windows.shares(of: sources) {
                            sums[source] += share * Double(dy.start[target])
                        }
                    }
                    blend.store(sums, dx)
                }
            }
        }
    }
}

/// The windows of a pooling over `x`.
private struct PoolingWindows: Sendable {
    let pooling: PoolingDescriptor
    let x: Tensor
    let y: Tensor

    private var isMaximum: Bool { pooling.mode == 0 || pooling.mode == 3 }

    /// `body` with each value of the output and the values of its window that are not padding.
    func forEach(_ body: (_ target: Int, _ sources: [Int]) -> Void) {
        let (height, width) = (x.sizes[2], x.sizes[3])
        var target = 0
        for plane in 0..<x.descriptor.n * x.descriptor.c {
            for row in 0..<y.sizes[2] {
                let rows = range(0, row, height)
                for column in 0..<y.sizes[3] {
                    let columns = range(1, column, width)
                    body(
                        target,
                        rows.flatMap { row in
                            columns.map { plane * height * width + row * width + $0 }
                        })
                    target += 1
                }
            }
        }
    }

    private func range(_ axis: Int, _ position: Int, _ length: Int) -> Range<Int> {
        let start = position * pooling.steps.stride[axis] - pooling.steps.padding[axis]
        return max(0, start)..<min(length, start + pooling.window[axis])
    }

    /// What a mean divides by.
    private func divisor(_ sources: [Int]) -> Double {
        pooling.mode == Int32(GEEPS_CUDNN_POOLING_AVERAGE_WITH_PADDING)
            ? Double(pooling.window[0] * pooling.window[1]) : Double(sources.count)
    }

    func value(of sources: [Int]) -> Double {
        if isMaximum { return sources.first.map { _ in Double(x.start[largest(sources)]) } ?? 0 }
        return sources.reduce(0.0) { $0 + Double(x.start[$1]) } / divisor(sources)
    }

    /// Where a gradient goes: the first of the largest, or all alike.
    func shares(of sources: [Int]) -> [(Int, Double)] {
        if isMaximum { return [(largest(sources), 1)] }
        return sources.map { ($0, 1 / divisor(sources)) }
    }

    private func largest(_ sources: [Int]) -> Int {
        sources.reduce(sources[0]) { best, source in
            // Written so that a NaN is the largest.
            x.start[source] <= x.start[best] || x.start[best].isNaN ? best : source
        }
    }
}

extension LibraryCall {
    fileprivate func windows(
        _ pooling: OpaquePointer?, _ x: Tensor, _ y: Tensor
    ) throws(Refusal) -> PoolingWindows {
        let pooling: PoolingDescriptor = try get(pooling)
        let expected =
            [x.sizes[0], x.sizes[1]]
            + [0, 1].map {
                pooling.steps.positions($0, over: x.sizes[2 + $0], size: pooling.window[$0])
            }
        try require(y.sizes == expected, "the output is \(y.sizes), expected \(expected)")
        return PoolingWindows(pooling: pooling, x: x, y: y)
    }
}
