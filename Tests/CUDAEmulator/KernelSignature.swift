import CGeePSKernels

/// What a kernel's parameters are and which memory it touches.
struct KernelSignature {
    /// Bytes of each parameter, in order.
    let sizes: [Int]
    /// What a launch touches.
    let touches: @Sendable (KernelArguments) -> [KernelTouch]
    /// Rows by index, which are known when the kernel runs.
    var rows: (@Sendable (KernelArguments) -> KernelRows)?

    init(
        _ parameters: String, _ touches: @escaping @Sendable (KernelArguments) -> [KernelTouch],
        rows: (@Sendable (KernelArguments) -> KernelRows)? = nil
    ) {
        sizes = parameters.map { Self.size(of: $0) }
        self.touches = touches
        self.rows = rows
    }

    /// p: an address; q: a 64-bit number; f: a float; the others are an optimiser's structs.
    private static func size(of kind: Character) -> Int {
        switch kind {
        case "p", "q": 8
        case "f": 4
        case "g": MemoryLayout<geeps_gradient>.size
        case "s": MemoryLayout<geeps_sgd>.size
        case "a": MemoryLayout<geeps_adam>.size
        case "d": MemoryLayout<geeps_adagrad>.size
        case "r": MemoryLayout<geeps_rmsprop>.size
        default: preconditionFailure("no parameter is written \(kind)")
        }
    }

    static let all: [String: KernelSignature] = [
        "geeps_gather_rows": KernelSignature(
            "pppqq", { [.write($0, 0, $0[3] * $0[4]), .read($0, 2, $0[3])] },
            rows: { KernelRows(array: $0[1], arguments: $0, reads: true, writes: false) }),
        "geeps_scatter_rows": KernelSignature(
            "pppqq", { [.read($0, 1, $0[3] * $0[4]), .read($0, 2, $0[3])] },
            rows: { KernelRows(array: $0[0], arguments: $0, reads: false, writes: true) }),
        "geeps_scatter_add_rows": KernelSignature(
            "pppqq", { [.read($0, 1, $0[3] * $0[4]), .read($0, 2, $0[3])] },
            rows: { KernelRows(array: $0[0], arguments: $0, reads: true, writes: true) }),
        "geeps_copy": KernelSignature("ppq") { [.write($0, 0, $0[2]), .read($0, 1, $0[2])] },
        "geeps_fill": KernelSignature("pfq") { [.write($0, 0, $0[2])] },
        "geeps_add": KernelSignature("ppq") { [.change($0, 0, $0[2]), .read($0, 1, $0[2])] },
        "geeps_scale": KernelSignature("pfq") { [.change($0, 0, $0[2])] },
        "geeps_sum_of_two": KernelSignature("pppq") {
            [.write($0, 0, $0[3]), .read($0, 1, $0[3]), .read($0, 2, $0[3])]
        },
        "geeps_step_add": KernelSignature("ppqg") {
            [.change($0, 0, $0[2]), .read($0, 1, $0[2])]
        },
        "geeps_step_sgd": KernelSignature("pppqgs") {
            [.change($0, 0, $0[3]), .read($0, 1, $0[3]), .change($0, 2, $0[3])]
        },
        "geeps_step_adam": KernelSignature("ppppqga") {
            [
                .change($0, 0, $0[4]), .read($0, 1, $0[4]), .change($0, 2, $0[4]),
                .change($0, 3, $0[4]),
            ]
        },
        "geeps_step_adagrad": KernelSignature("pppqgd") {
            [.change($0, 0, $0[3]), .read($0, 1, $0[3]), .change($0, 2, $0[3])]
        },
        "geeps_step_rmsprop": KernelSignature("pppppqgr") {
            [
                .change($0, 0, $0[5]), .read($0, 1, $0[5]), .change($0, 2, $0[5]),
                .change($0, 3, $0[5]), .change($0, 4, $0[5]),
            ]
        },
        "geeps_add_bias": KernelSignature("ppqqq") {
            [.change($0, 0, $0[2] * $0[3] * $0[4]), .read($0, 1, $0[3])]
        },
        "geeps_bias_gradient": KernelSignature("ppqqq") {
            [.write($0, 0, $0[3]), .read($0, 1, $0[2] * $0[3] * $0[4])]
        },
        "geeps_dropout": KernelSignature("ppqqfq") {
            [.write($0, 0, $0[5]), .read($0, 1, $0[5])]
        },
        "geeps_lstm_forward": KernelSignature("ppppqqqq") {
            let (lastRow, width) = ($0[6] - 1, $0[7])
            return [
                .change($0, 0, lastRow * $0[4] + 4 * width), .change($0, 1, $0[6] * width),
                .write($0, 2, lastRow * $0[5] + width), .read($0, 3, 8 * width),
            ]
        },
        "geeps_lstm_backward": KernelSignature("ppppppqqqq") {
            let (lastRow, steps, width) = ($0[7] - 1, $0[8], $0[9])
            let gateCount = (lastRow * steps + 1) * 4 * width
            return [
                .write($0, 0, gateCount), .change($0, 1, $0[7] * width),
                .read($0, 2, $0[7] * width), .read($0, 3, lastRow * $0[6] + width),
                .read($0, 4, gateCount), .read($0, 5, lastRow * steps * width + width),
            ]
        },
        "geeps_lstm_states": KernelSignature("pppqqq") {
            let count = $0[3] * $0[4] * $0[5]
            return [.write($0, 0, count), .write($0, 1, count), .read($0, 2, 4 * count)]
        },
        "geeps_softmax_loss": KernelSignature("pppppqqf") {
            [
                .write($0, 0, $0[5] * $0[6]), .write($0, 1, $0[5]), .write($0, 2, $0[5]),
                .read($0, 3, $0[5] * $0[6]), .read($0, 4, $0[5]),
            ]
        },
        "geeps_float_to_bfloat16": KernelSignature("ppq") {
            [.write($0, 0, $0[2], elementBytes: 2), .read($0, 1, $0[2])]
        },
        "geeps_bfloat16_to_float": KernelSignature("ppq") {
            [.write($0, 0, $0[2]), .read($0, 1, $0[2], elementBytes: 2)]
        },
        "geeps_squared_norm_parts": KernelSignature("ppqq") {
            [.write($0, 0, $0[3], elementBytes: 8), .read($0, 1, $0[2])]
        },
    ]
}

/// Copies of the values a kernel was launched with.
final class KernelArguments: @unchecked Sendable {
    // Sendable: written in `init` only.
    let addresses: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private let storage: UnsafeMutableRawPointer
    private static let slot = 64

    /// Nil when a parameter has no address.
    init?(_ sizes: [Int], _ parameters: UnsafeMutablePointer<UnsafeMutableRawPointer?>) {
        storage = .allocate(byteCount: max(1, sizes.count) * Self.slot, alignment: 64)
        addresses = .allocate(capacity: max(1, sizes.count))
        for (index, size) in sizes.enumerated() {
            guard let source = parameters[index] else {
                storage.deallocate()
                addresses.deallocate()
                return nil
            }
            let target = storage + index * Self.slot
            target.copyMemory(from: source, byteCount: size)
            addresses[index] = target
        }
    }

    deinit {
        storage.deallocate()
        addresses.deallocate()
    }

    /// A parameter of eight bytes: a number or an address.
    subscript(_ index: Int) -> Int {
        (storage + index * Self.slot).load(as: Int.self)
    }
}

/// An array that a kernel touches.
struct KernelTouch {
    var address: UInt
    var byteCount: Int
    var reads: Bool
    var writes: Bool

    private init(
        _ arguments: KernelArguments, _ index: Int, _ count: Int, _ elementBytes: Int, reads: Bool,
        writes: Bool
    ) {
        address = UInt(bitPattern: arguments[index])
        byteCount = address == 0 ? 0 : count * elementBytes
        self.reads = reads
        self.writes = writes
    }

    static func read(
        _ arguments: KernelArguments, _ index: Int, _ count: Int, elementBytes: Int = 4
    ) -> KernelTouch {
        KernelTouch(arguments, index, count, elementBytes, reads: true, writes: false)
    }

    static func write(
        _ arguments: KernelArguments, _ index: Int, _ count: Int, elementBytes: Int = 4
    ) -> KernelTouch {
        KernelTouch(arguments, index, count, elementBytes, reads: false, writes: true)
    }

    static func change(
        _ arguments: KernelArguments, _ index: Int, _ count: Int
    ) -> KernelTouch {
        KernelTouch(arguments, index, count, 4, reads: true, writes: true)
    }
}

/// Rows of an array that a kernel finds by an index in device memory.
struct KernelRows {
    let array: Int
    let arguments: KernelArguments
    let reads: Bool
    let writes: Bool

    /// The rows' addresses, ascending; the index is read, so the kernel's turn must have come.
    var ranges: [AddressRange] {
        guard let index = UnsafePointer<UInt32>(bitPattern: arguments[2]) else { return [] }
        let (count, width) = (arguments[3], arguments[4])
        let rows = Set(UnsafeBufferPointer(start: index, count: count)).sorted()
        return rows.map { row in
            let start = UInt(bitPattern: array) + UInt(row) * UInt(width) * 4
            return start..<start + UInt(width) * 4
        }
    }
}
