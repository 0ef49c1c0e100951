import Synchronization

/// What cuBLAS and cuDNN keep for an emulator.
final class LibraryObjects: Sendable {
    private struct State {
        // By handle.
        var living: [UInt: any LibraryObject] = [:]
        // What a dead handle was.
        var dead: [UInt: String] = [:]
        var lastError = ""
        var products: [CUDAProduct] = []
    }

    private let state = Mutex(State())

    /// The ones of `emulator`.
    static func of(_ emulator: CUDAEmulator) -> LibraryObjects {
        var isNew = false
        let objects = emulator.library {
            isNew = true
            return LibraryObjects()
        }
        if isNew { emulator.atClose { objects.reportLeaks($0) } }
        return objects
    }

    /// Says what went wrong last.
    var lastError: String {
        get { state.withLock { $0.lastError } }
        set { state.withLock { $0.lastError = newValue } }
    }

    var products: [CUDAProduct] { state.withLock { $0.products } }

    func note(_ product: CUDAProduct) { state.withLock { $0.products.append(product) } }

    func add(_ object: some LibraryObject, _ handle: UInt) {
        state.withLock { $0.living[handle] = object }
    }

    func remove(_ handle: UInt) {
        state.withLock { state in
            let object = state.living.removeValue(forKey: handle)
            state.dead[handle] = object.map { type(of: $0).noun }
        }
    }

    /// What `handle` is, or else the words for it.
    func find(_ handle: UInt) -> (object: (any LibraryObject)?, dead: String) {
        state.withLock { state in
            let noun = state.dead[handle].map { "\($0) that was destroyed" }
            return (state.living[handle], noun ?? (handle == 0 ? "null" : "no handle"))
        }
    }

    private func reportLeaks(_ emulator: CUDAEmulator) {
        for noun in state.withLock({ $0.living.values.map { type(of: $0).noun } }).sorted() {
            emulator.report("leak: \(noun) was never destroyed")
        }
    }
}

/// What a handle of cuBLAS or cuDNN stands for.
protocol LibraryObject: Sendable {
    /// As findings name it: "a tensor's descriptor".
    static var noun: String { get }
    /// Whether it may be used.
    var isSet: Bool { get }
}

/// What work is asked of: bound to a context and a stream.
protocol LibraryHandle: LibraryObject {
    var context: UInt { get }
    var stream: UInt { get }
}

extension LibraryHandle {
    var isSet: Bool { true }
}

struct CUBLASHandle: LibraryHandle {
    static let noun = "a handle of cuBLAS"
    let context: UInt
    var stream: UInt = 0
    /// Nil: the library's own.
    var workspace: Values?
    var mode: Int32 = 0
}

struct CUDNNHandle: LibraryHandle {
    static let noun = "a handle of cuDNN"
    let context: UInt
    var stream: UInt = 0
}

/// `[n, c, h, w]` values without gaps.
struct TensorDescriptor: LibraryObject {
    static let noun = "a tensor's descriptor"
    var sizes: [Int] = []
    var isSet: Bool { !sizes.isEmpty }
    var count: Int { sizes.reduce(1, *) }
    var n: Int { sizes[0] }
    var c: Int { sizes[1] }
    /// Values of a channel of an image.
    var plane: Int { sizes[2] * sizes[3] }
}

/// `[out, in, height, width]` weights.
struct FilterDescriptor: LibraryObject {
    static let noun = "a filter's descriptor"
    var sizes: [Int] = []
    var isSet: Bool { !sizes.isEmpty }
    var count: Int { sizes.reduce(1, *) }
}

/// How a window moves along the two axes of an image.
struct WindowSteps: Sendable {
    var padding: [Int] = []
    var stride: [Int] = []
    var dilation = [1, 1]

    /// Positions of a window of `size` over `length` values of an axis.
    func positions(_ axis: Int, over length: Int, size: Int) -> Int {
        let extent = dilation[axis] * (size - 1) + 1
        return (length + 2 * padding[axis] - extent) / stride[axis] + 1
    }
}

struct ConvolutionDescriptor: LibraryObject {
    static let noun = "a convolution's descriptor"
    var steps = WindowSteps()
    var math: Int32 = 0
    var isSet: Bool { !steps.stride.isEmpty }
}

struct PoolingDescriptor: LibraryObject {
    static let noun = "a pooling's descriptor"
    var mode: Int32 = 0
    var window: [Int] = []
    var steps = WindowSteps()
    var isSet: Bool { !window.isEmpty }
}

struct ActivationDescriptor: LibraryObject {
    static let noun = "an activation's descriptor"
    var mode: Int32 = -1
    var isSet: Bool { mode >= 0 }
}

struct LRNDescriptor: LibraryObject {
    static let noun = "a local response normalisation's descriptor"
    var size = 0
    var alpha = 0.0
    var beta = 0.0
    var k = 0.0
    var isSet: Bool { size > 0 }
}
