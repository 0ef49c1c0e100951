import CDNNL

/// An argument of a kernel: its place in oneDNN's call, and the order of values the caller has it in.
struct DNNArgument {
    enum Direction { case input, output }

    let index: Int32
    let query: dnnl_query_t
    let direction: Direction
    let descriptor: dnnl_memory_desc_t

    /// An argument that is read.
    static func input(
        _ index: Int32, _ query: dnnl_query_t, _ descriptor: dnnl_memory_desc_t
    ) -> DNNArgument {
        DNNArgument(index: index, query: query, direction: .input, descriptor: descriptor)
    }

    /// An argument that is overwritten.
    static func output(
        _ index: Int32, _ query: dnnl_query_t, _ descriptor: dnnl_memory_desc_t
    ) -> DNNArgument {
        DNNArgument(index: index, query: query, direction: .output, descriptor: descriptor)
    }
}

/// A primitive that is made once and run on memory the caller lends each time.
///
/// Where the implementation wants another order of values than the caller has, the kernel copies through its
/// scratch: inputs before, outputs after. Running allocates nothing on our side.
final class DNNKernel {
    private struct Slot {
        let direction: DNNArgument.Direction
        /// The caller's memory; `dnnl_memory_set_data_handle` points it anew for every run.
        let outer: dnnl_memory_t
        /// What the primitive works on: `outer`, or memory in scratch.
        let inner: dnnl_memory_t
        /// Between the two; nil when they are one.
        let reorder: Primitive?
        let scratchOffset: Int
    }

    /// A primitive and its argument list, whose memories belong to the kernel.
    private final class Primitive {
        let handle: dnnl_primitive_t
        let arguments: UnsafeMutablePointer<dnnl_exec_arg_t>
        let count: Int

        init(
            _ descriptor: DNNPrimitiveDescriptor, _ list: [(Int32, dnnl_memory_t)], _ call: DNNCall
        ) throws(NNError) {
            var handle: dnnl_primitive_t?
            let status = dnnl_primitive_create(&handle, descriptor.handle)
            guard status == dnnl_success, let handle else { throw call.error(status) }
            self.handle = handle
            count = list.count
            arguments = .allocate(capacity: list.count)
            for (index, (argument, memory)) in list.enumerated() {
                arguments[index] = dnnl_exec_arg_t(arg: argument, memory: memory)
            }
        }

        deinit {
            dnnl_primitive_destroy(handle)
            arguments.deallocate()
        }
    }

    /// What oneDNN calls the implementation.
    let implementation: String
    /// Whether it is the reference implementation.
    let isReference: Bool
    /// Scratch that `run` needs, aligned to 64.
    let scratchBytes: Int
    /// The words of its errors.
    let call: DNNCall
    private let engine: DNNEngine
    private let memories: DNNMemories
    private let slots: [Slot]
    private let primitive: Primitive
    private let scratchpad: dnnl_memory_t?

    /// A kernel of `descriptor`; `run` takes the arguments in the order of `arguments`.
    init(
        _ descriptor: DNNPrimitiveDescriptor, _ arguments: [DNNArgument], engine: DNNEngine,
        _ call: DNNCall
    ) throws(NNError) {
        self.call = call
        self.engine = engine
        implementation = descriptor.implementation
        isReference = descriptor.isReference
        let memories = DNNMemories(engine: engine, call)
        self.memories = memories
        var scratchBytes = Self.aligned(descriptor.scratchpadBytes)
        var slots: [Slot] = []
        var list: [(Int32, dnnl_memory_t)] = []
        for argument in arguments {
            let slot = try Self.slot(
                argument, descriptor, memories, engine, &scratchBytes, call)
            slots.append(slot)
            list.append((argument.index, slot.inner))
        }
        if let pad = descriptor.descriptor(dnnl_query_scratchpad_md) {
            let memory = try memories.make(pad)
            list.append((DNNL_ARG_SCRATCHPAD, memory))
            scratchpad = memory
        } else {
            scratchpad = nil
        }
        self.slots = slots
        self.scratchBytes = scratchBytes
        primitive = try Primitive(descriptor, list, call)
    }

    /// A kernel that copies one order of values to another.
    static func copy(
        from source: dnnl_memory_desc_t, to target: dnnl_memory_desc_t, engine: DNNEngine,
        _ call: DNNCall
    ) throws(NNError) -> DNNKernel {
        try DNNKernel(
            try DNNPrimitiveDescriptor.reorder(from: source, to: target, engine: engine, call),
            [
                .input(DNNL_ARG_SRC_0, dnnl_query_src_md, source),
                .output(DNNL_ARG_DST_0, dnnl_query_dst_md, target),
            ], engine: engine, call)
    }

    /// What it is, for people.
    var report: KernelReport {
        KernelReport(
            layer: call.layer, operation: call.operation, implementation: implementation,
            isReference: isReference)
    }

    private static func aligned(_ bytes: Int) -> Int { (bytes + 63) & ~63 }

    private static func slot(
        _ argument: DNNArgument, _ descriptor: DNNPrimitiveDescriptor, _ memories: DNNMemories,
        _ engine: DNNEngine, _ scratchBytes: inout Int, _ call: DNNCall
    ) throws(NNError) -> Slot {
        var outerDescriptor = argument.descriptor
        let outer = try memories.make(outerDescriptor)
        var innerDescriptor = descriptor.descriptor(argument.query) ?? outerDescriptor
        if dnnl_memory_desc_equal(&innerDescriptor, &outerDescriptor) == 1 {
            return Slot(
                direction: argument.direction, outer: outer, inner: outer, reorder: nil,
                scratchOffset: 0)
        }
        let inner = try memories.make(innerDescriptor)
        let isInput = argument.direction == .input
        let copy = try DNNPrimitiveDescriptor.reorder(
            from: isInput ? outerDescriptor : innerDescriptor,
            to: isInput ? innerDescriptor : outerDescriptor, engine: engine, call)
        guard copy.scratchpadBytes == 0 else {
            throw NNError(
                .kernel,
                "layer \(call.layer): the copy between layouts for \(call.operation) needs a scratchpad of "
                    + "\(copy.scratchpadBytes) bytes; plain copies need none")
        }
        let reorder = try Primitive(
            copy,
            [
                (DNNL_ARG_SRC_0, isInput ? outer : inner),
                (DNNL_ARG_DST_0, isInput ? inner : outer),
            ], call)
        let offset = scratchBytes
        scratchBytes += aligned(dnnl_memory_desc_get_size(&innerDescriptor))
        return Slot(
            direction: argument.direction, outer: outer, inner: inner, reorder: reorder,
            scratchOffset: offset)
    }

    /// Runs on the arguments, in the order of `init`; each at least as long as its descriptor says.
    func run(
        _ first: UnsafeRawPointer, _ second: UnsafeRawPointer, _ third: UnsafeRawPointer? = nil,
        _ fourth: UnsafeRawPointer? = nil, scratch: UnsafeMutableRawPointer?
    ) throws(NNError) {
        precondition(
            scratch != nil || scratchBytes == 0,
            "layer \(call.layer) needs \(scratchBytes) bytes of scratch to \(call.operation)")
        try bind(0, first, scratch)
        try bind(1, second, scratch)
        try bind(2, third, scratch)
        try bind(3, fourth, scratch)
        if let scratchpad { try call.check(dnnl_memory_set_data_handle(scratchpad, scratch)) }
        for slot in slots where slot.direction == .input { try execute(slot.reorder) }
        try execute(primitive)
        for slot in slots where slot.direction == .output { try execute(slot.reorder) }
        try call.check(dnnl_stream_wait(engine.stream))
    }

    private func bind(
        _ index: Int, _ pointer: UnsafeRawPointer?, _ scratch: UnsafeMutableRawPointer?
    ) throws(NNError) {
        guard index < slots.count else { return }
        let slot = slots[index]
        precondition(
            pointer != nil, "\(call.operation) of \(call.layer): argument \(index) missing")
        try call.check(
            dnnl_memory_set_data_handle(slot.outer, UnsafeMutableRawPointer(mutating: pointer)))
        if slot.reorder != nil, let scratch {
            try call.check(dnnl_memory_set_data_handle(slot.inner, scratch + slot.scratchOffset))
        }
    }

    private func execute(_ primitive: Primitive?) throws(NNError) {
        guard let primitive else { return }
        try call.check(
            dnnl_primitive_execute(
                primitive.handle, engine.stream, Int32(primitive.count), primitive.arguments))
    }
}

/// oneDNN memory objects without memory of their own, freed together.
private final class DNNMemories {
    private let engine: DNNEngine
    private let call: DNNCall
    private var handles: [dnnl_memory_t] = []

    init(engine: DNNEngine, _ call: DNNCall) {
        self.engine = engine
        self.call = call
    }

    deinit { for handle in handles { dnnl_memory_destroy(handle) } }

    func make(_ descriptor: dnnl_memory_desc_t) throws(NNError) -> dnnl_memory_t {
        var descriptor = descriptor
        var handle: dnnl_memory_t?
        // A null handle is DNNL_MEMORY_NONE: no memory until `run` points at some.
        let status = dnnl_memory_create(&handle, &descriptor, engine.engine, nil)
        guard status == dnnl_success, let handle else { throw call.error(status) }
        handles.append(handle)
        return handle
    }
}
