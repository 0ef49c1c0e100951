public import CGeePSShims
import Glibc

extension CUDAEmulator {
    /// cuBLAS's functions.
    public var cublas: geeps_cuda_cublas {
        var table = geeps_cuda_cublas()
        // Asked while something else is reported: not counted.
        table.cublasGetStatusString = { _ in LibraryText.cublas }
        table.cublasCreate_v2 = { result in
            LibraryCall.run("cublasCreate_v2", .cublas) { call throws(Refusal) in
                try call.make(CUBLASHandle(context: try call.currentContext()), result)
            }
        }
        table.cublasDestroy_v2 = { handle in
            LibraryCall.run("cublasDestroy_v2", .cublas) { call throws(Refusal) in
                try call.destroy(handle, CUBLASHandle.self)
            }
        }
        table.cublasGetVersion_v2 = { handle, version in
            LibraryCall.run("cublasGetVersion_v2", .cublas) { call throws(Refusal) in
                _ = try call.own(handle) as CUBLASHandle
                version?.pointee = 130_000
            }
        }
        table.cublasSetStream_v2 = { handle, stream in
            LibraryCall.run("cublasSetStream_v2", .cublas) { call throws(Refusal) in
                var own: CUBLASHandle = try call.own(handle)
                own.stream = UInt(bitPattern: stream)
                own.workspace = nil
                try call.set(handle, own)
            }
        }
        table.cublasSetWorkspace_v2 = { handle, workspace, bytes in
            LibraryCall.run("cublasSetWorkspace_v2", .cublas) { call throws(Refusal) in
                var own: CUBLASHandle = try call.own(handle)
                try call.require(
                    UInt(bitPattern: workspace) % 256 == 0, "a workspace is aligned to 256 bytes")
                own.workspace =
                    workspace == nil ? nil : try call.values(workspace, bytes / 4, "workspace")
                try call.set(handle, own)
            }
        }
        table.cublasSetMathMode = { handle, mode in
            LibraryCall.run("cublasSetMathMode", .cublas) { call throws(Refusal) in
                var own: CUBLASHandle = try call.own(handle)
                own.mode = mode
                try call.set(handle, own)
            }
        }
        table.cublasGemmEx = {
            handle, aOperation, bOperation, m, n, k, alpha, a, aType, aStride, b, bType, bStride,
            beta, c, cType, cStride, computeType, _ in
            LibraryCall.run("cublasGemmEx", .cublas) { call throws(Refusal) in
                try call.requireSupport(
                    [aType, bType, cType].allSatisfy { $0 == Int32(GEEPS_CUBLAS_FLOAT32) },
                    "types \(aType), \(bType), \(cType) are not float32")
                try call.require(
                    min(m, n, k) >= 0, "a product of [\(m), \(k)] and [\(k), \(n)]")
                let sizes = (m: Int(m), n: Int(n), k: Int(k))
                let first = try call.matrix(
                    a, sizes.m, sizes.k, Int(aStride), operation: aOperation, "a")
                let second = try call.matrix(
                    b, sizes.k, sizes.n, Int(bStride), operation: bOperation, "b")
                let target = try call.matrix(
                    c, sizes.m, sizes.n, Int(cStride), operation: 0, "c")
                try call.multiply(
                    try call.own(handle), first, second, target, try call.blend(alpha, beta),
                    computeType)
            }
        }
        return table
    }
}

/// A matrix in cuBLAS's order, column by column.
private struct Matrix: Sendable {
    let values: Values
    /// As they lie in memory.
    let rows: Int
    let columns: Int
    let stride: Int
    let isTransposed: Bool

    /// Its memory: what lies between columns is not its own.
    var places: [UnsafeRawBufferPointer] {
        if stride == rows { return [values.buffer] }
        return (0..<columns).map { values.dropFirst($0 * stride, count: rows).buffer }
    }

    /// Its values, `[rows, columns]` after the operation, a row behind the other.
    func rounded(_ rounding: Rounding) -> ValueCopy {
        let width = isTransposed ? rows : columns
        let (rowStep, columnStep) = isTransposed ? (stride, 1) : (1, stride)
        return ValueCopy(rows * columns) {
            rounding(values.start[$0 / width * rowStep + $0 % width * columnStep])
        }
    }
}

extension LibraryCall {
    /// The operand that is `[height, width]` after `operation`.
    fileprivate func matrix(
        _ pointer: UnsafeRawPointer?, _ height: Int, _ width: Int, _ stride: Int,
        operation: Int32, _ name: String
    ) throws(Refusal) -> Matrix {
        try require(0...2 ~= operation, "operation \(operation) of \(name)")
        let isTransposed = operation != Int32(GEEPS_CUBLAS_PLAIN)
        let (rows, columns) = isTransposed ? (width, height) : (height, width)
        try require(
            stride >= max(1, rows),
            "a stride of \(stride) for the \(rows) rows of \(name) as it lies in memory")
        let count = columns == 0 ? 0 : (columns - 1) * stride + rows
        return Matrix(
            values: try values(pointer, count, name), rows: rows, columns: columns, stride: stride,
            isTransposed: isTransposed)
    }

    /// `c = alpha a b + beta c`.
    fileprivate func multiply(
        _ handle: CUBLASHandle, _ a: Matrix, _ b: Matrix, _ c: Matrix, _ blend: Blend,
        _ computeType: Int32
    ) throws(Refusal) {
        let rounding: Rounding =
            switch Int(computeType) {
            // CUBLAS_TF32_TENSOR_OP_MATH
            case Int(GEEPS_CUBLAS_COMPUTE_FLOAT32): handle.mode == 3 ? .tf32 : .none
            case Int(GEEPS_CUBLAS_COMPUTE_FAST_TF32): .tf32
            case Int(GEEPS_CUBLAS_COMPUTE_FAST_BFLOAT16): .bfloat16
            default: throw refuse("compute type \(computeType)", status: statuses.notSupported)
            }
        for operand in [a, b] where operand.values.bytes.overlaps(c.values.bytes) {
            throw refuse("c overlaps an operand")
        }
        let workspace = handle.workspace
        try put(
            handle, reads: a.places + b.places + (blend.beta == 0 ? [] : c.places),
            writes: c.places + (workspace.map { [$0.buffer] } ?? [])
        ) {
            workspace?.scribble()
            let factors = (a.rounded(rounding), b.rounded(rounding))
            let (first, second) = (factors.0.values.start, factors.1.values.start)
            let inner = a.isTransposed ? a.rows : a.columns
            for column in 0..<c.columns {
                for row in 0..<c.rows {
                    var sum = 0.0
                    for index in 0..<inner {
                        sum +=
                            Double(first[row * inner + index])
                            * Double(second[index * c.columns + column])
                    }
                    blend.store(sum, c.values.start + column * c.stride + row)
                }
            }
            workspace?.scribble()
        }
        objects.note(CUDAProduct(function: function, math: computeType, algorithm: 0))
    }
}

/// Texts with a life as long as the process.
enum LibraryText {
    nonisolated(unsafe) static let cublas = UnsafePointer(strdup("CUBLAS_STATUS_EMULATED"))
    nonisolated(unsafe) static let cudnn = UnsafePointer(strdup("CUDNN_STATUS_EMULATED"))
}
