import CGeePSShims
import Glibc

extension CUDAEmulator {
    static func fillNormalisation(_ table: inout geeps_cuda_cudnn) {
        fillLRN(&table)
        fillBatchNormalisation(&table)
    }

    private static func fillLRN(_ table: inout geeps_cuda_cudnn) {
        table.cudnnSetLRNDescriptor = { handle, size, alpha, beta, k in
            LibraryCall.run("cudnnSetLRNDescriptor", .cudnn) { call throws(Refusal) in
                // CUDNN_LRN_MAX_N, CUDNN_LRN_MIN_K, CUDNN_LRN_MIN_BETA
                try call.require(
                    1...16 ~= size && k >= 1e-5 && beta >= 0.01,
                    "size \(size), beta \(beta), k \(k)")
                try call.set(
                    handle, LRNDescriptor(size: Int(size), alpha: alpha, beta: beta, k: k))
            }
        }
        table.cudnnLRNCrossChannelForward = {
            handle, lrn, mode, alpha, xLayout, x, beta, yLayout, y in
            LibraryCall.run("cudnnLRNCrossChannelForward", .cudnn) { call throws(Refusal) in
                try call.requireSupport(
                    mode == Int32(GEEPS_CUDNN_LRN_CROSS_CHANNEL), "mode \(mode)")
                let lrn: LRNDescriptor = try call.get(lrn)
                let x = try call.tensor(xLayout, x, "x")
                let y = try call.tensor(yLayout, y, "y", like: x.sizes).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x.values], writes: [y],
                    changed: blend.changed(y)
                ) {
                    let scales = lrn.scales(x)
                    x.forEach { index, _ in
                        blend.store(
                            Double(x.start[index]) * pow(scales[index], -lrn.beta), y.start + index)
                    }
                }
            }
        }
        table.cudnnLRNCrossChannelBackward = {
            handle, lrn, mode, alpha, yLayout, y, dyLayout, dy, xLayout, x, beta, dxLayout, dx in
            LibraryCall.run("cudnnLRNCrossChannelBackward", .cudnn) { call throws(Refusal) in
                try call.requireSupport(
                    mode == Int32(GEEPS_CUDNN_LRN_CROSS_CHANNEL), "mode \(mode)")
                let lrn: LRNDescriptor = try call.get(lrn)
                let x = try call.tensor(xLayout, x, "x")
                let y = try call.tensor(yLayout, y, "y", like: x.sizes).values
                let dy = try call.tensor(dyLayout, dy, "dy", like: x.sizes).values
                let dx = try call.tensor(dxLayout, dx, "dx", like: x.sizes).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x.values, y, dy], writes: [dx],
                    changed: blend.changed(dx)
                ) {
                    blend.store(lrn.gradient(x, dy), dx)
                }
            }
        }
    }

    private static func fillBatchNormalisation(_ table: inout geeps_cuda_cudnn) {
        table.cudnnBatchNormalizationForwardTraining = {
            handle, mode, alpha, beta, xLayout, x, yLayout, y, parameterLayout, scale, bias,
            factor, runningMean, runningVariance, epsilon, savedMean, savedInverse in
            LibraryCall.run("cudnnBatchNormalizationForwardTraining", .cudnn) {
                call throws(Refusal) in
                let normalisation = try call.normalisation(
                    handle, mode, xLayout, x, parameterLayout, scale, epsilon)
                let y = try call.tensor(yLayout, y, "y", like: normalisation.x.sizes).values
                let bias = try call.channels(bias, normalisation, "bias")
                let blend = try call.blend(alpha, beta)
                let running = try call.pair(runningMean, runningVariance, normalisation, "running")
                let saved = try call.pair(savedMean, savedInverse, normalisation, "saved")
                try call.put(
                    normalisation.handle,
                    reads: [normalisation.x.values, normalisation.scale, bias],
                    writes: [y] + running + saved, changed: running + blend.changed(y)
                ) {
                    let moments = normalisation.moments()
                    normalisation.normalise(moments, bias: bias, into: y, blend)
                    moments.update(running, factor: factor)
                    moments.save(saved)
                }
            }
        }
        table.cudnnBatchNormalizationForwardInference = {
            handle, mode, alpha, beta, xLayout, x, yLayout, y, parameterLayout, scale, bias, mean,
            variance, epsilon in
            LibraryCall.run("cudnnBatchNormalizationForwardInference", .cudnn) {
                call throws(Refusal) in
                let normalisation = try call.normalisation(
                    handle, mode, xLayout, x, parameterLayout, scale, epsilon)
                let y = try call.tensor(yLayout, y, "y", like: normalisation.x.sizes).values
                let bias = try call.channels(bias, normalisation, "bias")
                let mean = try call.channels(mean, normalisation, "mean")
                let variance = try call.channels(variance, normalisation, "variance")
                let blend = try call.blend(alpha, beta)
                try call.put(
                    normalisation.handle,
                    reads: [normalisation.x.values, normalisation.scale, bias, mean, variance],
                    writes: [y], changed: blend.changed(y)
                ) {
                    let moments = BatchMoments(
                        mean: mean.doubles,
                        inverse: variance.doubles.map { 1 / sqrt($0 + epsilon) },
                        variance: variance.doubles, count: 0)
                    normalisation.normalise(moments, bias: bias, into: y, blend)
                }
            }
        }
        table.cudnnBatchNormalizationBackward = {
            handle, mode, alphaData, betaData, alphaParameters, betaParameters, xLayout, x,
            dyLayout, dy, dxLayout, dx, parameterLayout, scale, scaleGradient, biasGradient,
            epsilon, savedMean, savedInverse in
            LibraryCall.run("cudnnBatchNormalizationBackward", .cudnn) { call throws(Refusal) in
                let normalisation = try call.normalisation(
                    handle, mode, xLayout, x, parameterLayout, scale, epsilon)
                let sizes = normalisation.x.sizes
                let dy = try call.tensor(dyLayout, dy, "dy", like: sizes).values
                let dx = try call.tensor(dxLayout, dx, "dx", like: sizes).values
                let dScale = try call.channels(scaleGradient, normalisation, "dscale")
                let dBias = try call.channels(biasGradient, normalisation, "dbias")
                let saved = try call.pair(savedMean, savedInverse, normalisation, "saved")
                let blend = try call.blend(alphaData, betaData)
                let parameterBlend = try call.blend(alphaParameters, betaParameters)
                try call.put(
                    normalisation.handle,
                    reads: [normalisation.x.values, normalisation.scale, dy] + saved,
                    writes: [dx, dScale, dBias],
                    changed: blend.changed(dx) + parameterBlend.changed(dScale)
                        + parameterBlend.changed(dBias)
                ) {
                    let found = normalisation.gradients(
                        saved.isEmpty ? normalisation.moments() : BatchMoments(saved: saved), dy)
                    blend.store(found.dx, dx)
                    parameterBlend.store(found.dScale, dScale)
                    parameterBlend.store(found.dBias, dBias)
                }
            }
        }
    }
}

extension Values {
    fileprivate var doubles: [Double] {
        UnsafeBufferPointer(start: start, count: count).map(Double.init)
    }
}

extension LRNDescriptor {
    /// Channels that count for `channel`: of an even number one more lies above than below.
    private func window(_ channel: Int, of count: Int) -> Range<Int> {
        let below = (size - 1) / 2
        return max(0, channel - below)..<min(count, channel - below + size)
    }

    /// `k + alpha / n sum x^2` of every value's window.
    fileprivate func scales(_ x: Tensor) -> [Double] {
        var scales = [Double](repeating: 0, count: x.values.count)
        let plane = x.descriptor.plane
        x.forEach { index, channel in
            let sum = window(channel, of: x.descriptor.c).reduce(0.0) { sum, other in
                let value = Double(x.start[index + (other - channel) * plane])
                return sum + value * value
            }
            scales[index] = k + alpha / Double(size) * sum
        }
        return scales
    }

    fileprivate func gradient(_ x: Tensor, _ dy: Values) -> [Double] {
        let scales = scales(x)
        let plane = x.descriptor.plane
        var gradient = [Double](repeating: 0, count: x.values.count)
        x.forEach { index, channel in
            let own = Double(dy.start[index]) * pow(scales[index], -beta)
            gradient[index] += own
            // Through the scale this value reaches all of its window.
            let factor =
                -2 * alpha * beta / Double(size) * own * Double(x.start[index]) / scales[index]
            for other in window(channel, of: x.descriptor.c) {
                let place = index + (other - channel) * plane
                gradient[place] += factor * Double(x.start[place])
            }
        }
        return gradient
    }
}

/// Statistics of a batch by channel.
private struct BatchMoments {
    var mean: [Double]
    /// One over the standard deviation.
    var inverse: [Double]
    /// Of the batch, divided by its count.
    var variance: [Double] = []
    /// Values of a channel.
    var count = 0

    init(mean: [Double], inverse: [Double], variance: [Double], count: Int) {
        self.mean = mean
        self.inverse = inverse
        self.variance = variance
        self.count = count
    }

    init(saved: [Values]) {
        mean = saved[0].doubles
        inverse = saved[1].doubles
    }

    /// Moves running statistics by `factor`; their variance is the sample's.
    func update(_ running: [Values], factor: Double) {
        guard !running.isEmpty else { return }
        let unbiased = count > 1 ? Double(count) / Double(count - 1) : 1
        for channel in mean.indices {
            let old = (
                Double(running[0].start[channel]), Double(running[1].start[channel])
            )
            running[0].start[channel] = Float(old.0 * (1 - factor) + mean[channel] * factor)
            running[1].start[channel] = Float(
                old.1 * (1 - factor) + variance[channel] * unbiased * factor)
        }
    }

    func save(_ saved: [Values]) {
        guard !saved.isEmpty else { return }
        for channel in mean.indices {
            saved[0].start[channel] = Float(mean[channel])
            saved[1].start[channel] = Float(inverse[channel])
        }
    }
}

/// What the three functions of a batch normalisation share.
private struct BatchNormalisation: Sendable {
    let handle: CUDNNHandle
    let x: Tensor
    let scale: Values
    let epsilon: Double

    private var count: Int { x.descriptor.n * x.descriptor.plane }

    func moments() -> BatchMoments {
        var mean = [Double](repeating: 0, count: x.descriptor.c)
        x.forEach { mean[$1] += Double(x.start[$0]) / Double(count) }
        var variance = [Double](repeating: 0, count: x.descriptor.c)
        x.forEach { index, channel in
            let difference = Double(x.start[index]) - mean[channel]
            variance[channel] += difference * difference / Double(count)
        }
        return BatchMoments(
            mean: mean, inverse: variance.map { 1 / sqrt($0 + epsilon) }, variance: variance,
            count: count)
    }

    func normalise(_ moments: BatchMoments, bias: Values, into y: Values, _ blend: Blend) {
        x.forEach { index, channel in
            let normal =
                (Double(x.start[index]) - moments.mean[channel]) * moments.inverse[channel]
            blend.store(
                normal * Double(scale.start[channel]) + Double(bias.start[channel]),
                y.start + index)
        }
    }

    func gradients(
        _ moments: BatchMoments, _ dy: Values
    ) -> (dx: [Double], dScale: [Double], dBias: [Double]) {
        func normal(_ index: Int, _ channel: Int) -> Double {
            (Double(x.start[index]) - moments.mean[channel]) * moments.inverse[channel]
        }
        var dScale = [Double](repeating: 0, count: x.descriptor.c)
        var dBias = dScale
        x.forEach { index, channel in
            dBias[channel] += Double(dy.start[index])
            dScale[channel] += Double(dy.start[index]) * normal(index, channel)
        }
        var dx = [Double](repeating: 0, count: x.values.count)
        x.forEach { index, channel in
            let centred =
                Double(dy.start[index])
                - (dBias[channel] + normal(index, channel) * dScale[channel]) / Double(count)
            dx[index] = Double(scale.start[channel]) * moments.inverse[channel] * centred
        }
        return (dx, dScale, dBias)
    }
}

extension LibraryCall {
    fileprivate func normalisation(
        _ handle: OpaquePointer?, _ mode: Int32, _ xLayout: OpaquePointer?, _ x: UnsafeRawPointer?,
        _ parameterLayout: OpaquePointer?, _ scale: UnsafeRawPointer?, _ epsilon: Double
    ) throws(Refusal) -> BatchNormalisation {
        try requireSupport(mode == Int32(GEEPS_CUDNN_BATCH_NORM_SPATIAL), "mode \(mode)")
        try require(epsilon >= 0, "epsilon is \(epsilon)")
        let x = try tensor(xLayout, x, "x")
        let scale = try tensor(parameterLayout, scale, "scale", like: [1, x.descriptor.c, 1, 1])
        return BatchNormalisation(
            handle: try own(handle), x: x, scale: scale.values, epsilon: epsilon)
    }

    fileprivate func channels(
        _ pointer: UnsafeRawPointer?, _ normalisation: BatchNormalisation, _ name: String
    ) throws(Refusal) -> Values {
        try values(pointer, normalisation.x.descriptor.c, name)
    }

    /// Two arrays that are both given or both null.
    fileprivate func pair(
        _ first: UnsafeRawPointer?, _ second: UnsafeRawPointer?,
        _ normalisation: BatchNormalisation, _ name: String
    ) throws(Refusal) -> [Values] {
        try require((first == nil) == (second == nil), "one of two \(name) arrays is null")
        if first == nil { return [] }
        return [
            try channels(first, normalisation, "\(name) mean"),
            try channels(second, normalisation, "\(name) variance"),
        ]
    }
}
