import CGeePSShims
import Glibc

extension CUDAEmulator {
    static func fillPointwise(_ table: inout geeps_cuda_cudnn) {
        fillActivation(&table)
        fillBias(&table)
        table.cudnnSoftmaxForward = {
            handle, algorithm, mode, alpha, xLayout, x, beta, yLayout, y in
            LibraryCall.run("cudnnSoftmaxForward", .cudnn) { call throws(Refusal) in
                try call.requireSupport(
                    mode == Int32(GEEPS_CUDNN_SOFTMAX_INSTANCE) && 0...2 ~= algorithm,
                    "algorithm \(algorithm), mode \(mode)")
                let x = try call.tensor(xLayout, x, "x")
                let y = try call.tensor(yLayout, y, "y", like: x.sizes).values
                let blend = try call.blend(alpha, beta)
                let isLogarithm = algorithm == Int32(GEEPS_CUDNN_SOFTMAX_LOG)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x.values], writes: [y],
                    changed: blend.changed(y), isInPlace: true
                ) {
                    let width = x.values.count / x.descriptor.n
                    for sample in 0..<x.descriptor.n {
                        let place = sample * width
                        let results = logSoftmax(x.values.dropFirst(place, count: width))
                        blend.store(
                            isLogarithm ? results : results.map { exp($0) },
                            y.dropFirst(place, count: width))
                    }
                }
            }
        }
    }

    private static func fillActivation(_ table: inout geeps_cuda_cudnn) {
        table.cudnnActivationForward = {
            handle, activation, alpha, xLayout, x, beta, yLayout, y in
            LibraryCall.run("cudnnActivationForward", .cudnn) { call throws(Refusal) in
                let activation: ActivationDescriptor = try call.get(activation)
                let x = try call.tensor(xLayout, x, "x")
                let y = try call.tensor(yLayout, y, "y", like: x.sizes).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x.values], writes: [y],
                    changed: blend.changed(y), isInPlace: true
                ) {
                    for index in 0..<y.count {
                        blend.store(
                            activation.value(Double(x.start[index])), y.start + index)
                    }
                }
            }
        }
        table.cudnnActivationBackward = {
            handle, activation, alpha, yLayout, y, dyLayout, dy, xLayout, x, beta, dxLayout, dx in
            LibraryCall.run("cudnnActivationBackward", .cudnn) { call throws(Refusal) in
                let activation: ActivationDescriptor = try call.get(activation)
                let x = try call.tensor(xLayout, x, "x")
                let y = try call.tensor(yLayout, y, "y", like: x.sizes).values
                let dy = try call.tensor(dyLayout, dy, "dy", like: x.sizes).values
                let dx = try call.tensor(dxLayout, dx, "dx", like: x.sizes).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [x.values, y, dy], writes: [dx],
                    changed: blend.changed(dx), isInPlace: true
                ) {
                    for index in 0..<dx.count {
                        let slope = activation.slope(
                            x: Double(x.start[index]), y: Double(y.start[index]))
                        blend.store(slope * Double(dy.start[index]), dx.start + index)
                    }
                }
            }
        }
    }

    private static func fillBias(_ table: inout geeps_cuda_cudnn) {
        table.cudnnAddTensor = { handle, alpha, aLayout, a, beta, cLayout, c in
            LibraryCall.run("cudnnAddTensor", .cudnn) { call throws(Refusal) in
                let c = try call.tensor(cLayout, c, "c")
                let a = try call.tensor(aLayout, a, "a", like: [1, c.descriptor.c, 1, 1]).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [a], writes: [c.values],
                    changed: blend.changed(c.values)
                ) {
                    c.forEach { blend.store(Double(a.start[$1]), c.start + $0) }
                }
            }
        }
        table.cudnnConvolutionBackwardBias = { handle, alpha, dyLayout, dy, beta, dbLayout, db in
            LibraryCall.run("cudnnConvolutionBackwardBias", .cudnn) { call throws(Refusal) in
                let dy = try call.tensor(dyLayout, dy, "dy")
                let db = try call.tensor(
                    dbLayout, db, "db", like: [1, dy.descriptor.c, 1, 1]
                ).values
                let blend = try call.blend(alpha, beta)
                try call.put(
                    try call.own(handle) as CUDNNHandle, reads: [dy.values], writes: [db],
                    changed: blend.changed(db)
                ) {
                    var sums = [Double](repeating: 0, count: db.count)
                    dy.forEach { sums[$1] += Double(dy.start[$0]) }
                    blend.store(sums, db)
                }
            }
        }
    }
}

extension ActivationDescriptor {
    fileprivate func value(_ x: Double) -> Double {
        switch Int(mode) {
        case Int(GEEPS_CUDNN_SIGMOID): 1 / (1 + exp(-x))
        case Int(GEEPS_CUDNN_TANH): tanh(x)
        default: x > 0 || x.isNaN ? x : 0
        }
    }

    fileprivate func slope(x: Double, y: Double) -> Double {
        switch Int(mode) {
        case Int(GEEPS_CUDNN_SIGMOID): y * (1 - y)
        case Int(GEEPS_CUDNN_TANH): 1 - y * y
        default: x > 0 ? 1 : 0
        }
    }
}

private func logSoftmax(_ values: Values) -> [Double] {
    let values = UnsafeBufferPointer(start: values.start, count: values.count).map(Double.init)
    let largest = values.reduce(-.infinity) { $0 >= $1 ? $0 : $1 }
    let sum = log(values.reduce(0) { $0 + exp($1 - largest) })
    return values.map { $0 - largest - sum }
}
