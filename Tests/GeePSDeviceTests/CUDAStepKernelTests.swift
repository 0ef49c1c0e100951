import CGeePSKernels
import Testing

/// a * b + c, rounded once.
private func fma(_ a: Float, _ b: Float, _ c: Float) -> Float { c.addingProduct(a, b) }

private func lerp(_ x: Float, _ y: Float, _ weight: Float) -> Float {
    weight < 0.5 ? fma(weight, y - x, x) : fma(x - y, 1 - weight, y)
}

/// Optimiser steps of the text: bit by bit the host's, and those of plain loops.
@Suite("CUDA Step Kernels") struct CUDAStepKernelTests {
    static let count = 1003
    static let gradients = [
        geeps_gradient(divisor: 1, scale: 0.7), geeps_gradient(divisor: 3, scale: 1),
    ]

    /// Values, sum and three arrays of state; the host's copies beside them.
    private struct Arrays {
        let ours: [KernelArray<Float>]
        let hosts: [KernelArray<Float>]
        let before: [[Float]]

        init() {
            var numbers = TestNumbers(seed: 6)
            let count = CUDAStepKernelTests.count
            before =
                [numbers.floats(count), numbers.floats(count)]
                + (0..<3).map { _ in numbers.positiveFloats(count) }
            ours = before.map { KernelArray($0, misalignment: 1) }
            hosts = before.map { KernelArray($0) }
        }

        /// Checks all arrays against the plain step `element` of (values, gradient, state).
        func expect(
            _ gradient: geeps_gradient,
            _ element: (inout Float, Float, inout [Float]) -> Void
        ) {
            var expected = before
            for i in expected[0].indices {
                let sum = expected[1][i]
                let g = (gradient.divisor == 1 ? sum : sum / gradient.divisor) * gradient.scale
                var state = (2..<5).map { expected[$0][i] }
                element(&expected[0][i], g, &state)
                for k in 0..<3 { expected[2 + k][i] = state[k] }
            }
            for k in expected.indices {
                let bits = expected[k].bits
                #expect(ours[k].values.bits == bits, "array \(k) of the text")
                #expect(hosts[k].values.bits == bits, "array \(k) of the host's table")
            }
        }
    }

    private let host = geeps_kernels_best().pointee
    private let n = Int64(count)

    @Test(arguments: gradients, LaunchShape.all)
    func addIsThePlainStep(gradient: geeps_gradient, shape: LaunchShape) throws {
        let arrays = Arrays()
        let (a, h) = (arrays.ours.map(\.start), arrays.hosts.map(\.start))
        try launch("geeps_step_add", shape, a[0], a[1], n, gradient)
        host.step_add(h[0], h[1], n, gradient)
        arrays.expect(gradient) { value, g, _ in value += g }
    }

    @Test(
        arguments: gradients,
        [(Float(0), Int32(0), Int32(0)), (0.9, 1, 0), (0.9, 0, 0), (0.9, 0, 1)])
    func sgdIsThePlainStep(gradient: geeps_gradient, kind: (Float, Int32, Int32)) throws {
        for (decay, shape) in zip([0, 0.01, 0, 0.01, 0] as [Float], LaunchShape.all) {
            let rule = geeps_sgd(
                weight_decay: decay, momentum: kind.0, one_minus_dampening: 0.8,
                negative_learning_rate: -0.1, is_first: kind.1, nesterov: kind.2)
            let arrays = Arrays()
            let (a, h) = (arrays.ours.map(\.start), arrays.hosts.map(\.start))
            let isPlain = rule.momentum == 0
            try launch(
                "geeps_step_sgd", shape, a[0], a[1], isPlain ? nil : a[2], n, gradient, rule)
            host.step_sgd(h[0], h[1], isPlain ? nil : h[2], n, gradient, rule)
            arrays.expect(gradient) { value, g, state in
                let g = decay != 0 ? fma(decay, value, g) : g
                var direction = g
                if !isPlain {
                    state[0] = kind.1 != 0 ? g : fma(0.8, g, 0.9 * state[0])
                    direction = kind.2 != 0 ? fma(0.9, state[0], g) : state[0]
                }
                value = fma(-0.1, direction, value)
            }
        }
    }

    @Test(arguments: gradients, LaunchShape.all)
    func adamIsThePlainStep(gradient: geeps_gradient, shape: LaunchShape) throws {
        for (decay, factor, step) in [(Float(0), Float(0.99), Float(0.1)), (0.02, 1, 0.7)] {
            let rule = geeps_adam(
                weight_decay: decay, decay_factor: factor, one_minus_beta1: step, beta2: 0.999,
                one_minus_beta2: 0.001, root_correction2: 0.3, epsilon: 1e-8,
                negative_step_size: -0.01)
            let arrays = Arrays()
            let (a, h) = (arrays.ours.map(\.start), arrays.hosts.map(\.start))
            try launch("geeps_step_adam", shape, a[0], a[1], a[2], a[3], n, gradient, rule)
            host.step_adam(h[0], h[1], h[2], h[3], n, gradient, rule)
            arrays.expect(gradient) { value, g, state in
                let g = decay != 0 ? fma(decay, value, g) : g
                state[0] = lerp(state[0], g, step)
                state[1] = fma(0.001 * g, g, 0.999 * state[1])
                let denominator = state[1].squareRoot() / 0.3 + 1e-8
                value = value * factor + (-0.01 * state[0]) / denominator
            }
        }
    }

    @Test(arguments: gradients, LaunchShape.all)
    func adagradIsThePlainStep(gradient: geeps_gradient, shape: LaunchShape) throws {
        for decay in [0, 0.02] as [Float] {
            let rule = geeps_adagrad(
                weight_decay: decay, epsilon: 1e-10, negative_learning_rate: -0.05)
            let arrays = Arrays()
            let (a, h) = (arrays.ours.map(\.start), arrays.hosts.map(\.start))
            try launch("geeps_step_adagrad", shape, a[0], a[1], a[2], n, gradient, rule)
            host.step_adagrad(h[0], h[1], h[2], n, gradient, rule)
            arrays.expect(gradient) { value, g, state in
                let g = decay != 0 ? fma(decay, value, g) : g
                state[0] = fma(g, g, state[0])
                value += (-0.05 * g) / (state[0].squareRoot() + 1e-10)
            }
        }
    }

    @Test(arguments: gradients, [(Float(0), Int32(0)), (0, 1), (0.9, 0), (0.9, 1)])
    func rmspropIsThePlainStep(gradient: geeps_gradient, kind: (Float, Int32)) throws {
        for (decay, shape) in zip([0, 0.01, 0, 0.01, 0] as [Float], LaunchShape.all) {
            let rule = geeps_rmsprop(
                weight_decay: decay, alpha: 0.75, one_minus_alpha: 0.25, epsilon: 2,
                momentum: kind.0, negative_learning_rate: -0.01, centered: kind.1)
            let arrays = Arrays()
            let (a, h) = (arrays.ours.map(\.start), arrays.hosts.map(\.start))
            // The square is made large, so that the variance stays above zero.
            for i in 0..<Self.count { a[2][i] += 1e10 }
            for i in 0..<Self.count { h[2][i] += 1e10 }
            let (hasBuffer, isCentered) = (kind.0 != 0, kind.1 != 0)
            try launch(
                "geeps_step_rmsprop", shape, a[0], a[1], a[2], hasBuffer ? a[3] : nil,
                isCentered ? a[4] : nil, n, gradient, rule)
            host.step_rmsprop(
                h[0], h[1], h[2], hasBuffer ? h[3] : nil, isCentered ? h[4] : nil, n, gradient,
                rule)
            arrays.expect(gradient) { value, g, state in
                let g = decay != 0 ? fma(decay, value, g) : g
                state[0] = fma(0.25 * g, g, 0.75 * (state[0] + 1e10))
                var variance = state[0]
                if isCentered {
                    state[2] = lerp(state[2], g, 0.25)
                    variance = fma(-state[2], state[2], variance)
                }
                let root = variance.squareRoot() + 2
                if hasBuffer {
                    state[1] = 0.9 * state[1] + g / root
                    value = fma(-0.01, state[1], value)
                } else {
                    value += (-0.01 * g) / root
                }
            }
        }
    }
}
