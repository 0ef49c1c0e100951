import CDNNL

/// Makers of oneDNN memory descriptors; all values are float32.
enum DNNDescriptor {
    /// A tensor of `dimensions` in the order `tag`, or `dnnl_format_tag_any` to let oneDNN choose.
    static func tensor(
        _ dimensions: [Int], _ tag: dnnl_format_tag_t, _ call: DNNCall
    ) throws(NNError) -> dnnl_memory_desc_t {
        var descriptor = dnnl_memory_desc_t()
        let dimensions = dimensions.map { Int64($0) }
        try call.check(
            dnnl_memory_desc_init_by_tag(
                &descriptor, Int32(dimensions.count), dimensions, dnnl_f32, tag))
        return descriptor
    }

    /// A batch `[B, C, H, W]` in `layout`.
    static func batch(
        _ count: Int, _ shape: Shape, _ layout: Layout, _ call: DNNCall
    ) throws(NNError) -> dnnl_memory_desc_t {
        try tensor(
            [count, shape.channels, shape.height, shape.width],
            layout == .channelsFirst ? dnnl_nchw : dnnl_nhwc, call)
    }
}

/// A primitive descriptor with one owner.
final class DNNPrimitiveDescriptor {
    let handle: dnnl_primitive_desc_t

    private init(_ handle: dnnl_primitive_desc_t) { self.handle = handle }

    deinit { dnnl_primitive_desc_destroy(handle) }

    /// The library's first choice for `operation`, whose scratchpad the caller supplies.
    static func make<Operation>(
        _ operation: Operation, engine: DNNEngine, forward: DNNPrimitiveDescriptor? = nil,
        _ call: DNNCall
    ) throws(NNError) -> DNNPrimitiveDescriptor {
        var attributes: dnnl_primitive_attr_t?
        try call.check(dnnl_primitive_attr_create(&attributes))
        defer { dnnl_primitive_attr_destroy(attributes) }
        try call.check(
            dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user))
        var handle: dnnl_primitive_desc_t?
        let status = withUnsafePointer(to: operation) {
            dnnl_primitive_desc_create(&handle, $0, attributes, engine.engine, forward?.handle)
        }
        guard status == dnnl_success, let handle else { throw call.error(status) }
        return DNNPrimitiveDescriptor(handle)
    }

    /// A copy from one order of values to another.
    static func reorder(
        from source: dnnl_memory_desc_t, to target: dnnl_memory_desc_t, engine: DNNEngine,
        _ call: DNNCall
    ) throws(NNError) -> DNNPrimitiveDescriptor {
        var attributes: dnnl_primitive_attr_t?
        try call.check(dnnl_primitive_attr_create(&attributes))
        defer { dnnl_primitive_attr_destroy(attributes) }
        try call.check(
            dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user))
        var (source, target) = (source, target)
        var handle: dnnl_primitive_desc_t?
        let status = dnnl_reorder_primitive_desc_create(
            &handle, &source, engine.engine, &target, engine.engine, attributes)
        guard status == dnnl_success, let handle else { throw call.error(status) }
        return DNNPrimitiveDescriptor(handle)
    }

    /// The descriptor that the implementation chose for an argument; nil when it takes none.
    func descriptor(_ query: dnnl_query_t) -> dnnl_memory_desc_t? {
        guard let chosen = dnnl_primitive_desc_query_md(handle, query, 0) else { return nil }
        return chosen.pointee.ndims == 0 ? nil : chosen.pointee
    }

    /// Bytes of the scratchpad.
    var scratchpadBytes: Int {
        guard var scratchpad = descriptor(dnnl_query_scratchpad_md) else { return 0 }
        return dnnl_memory_desc_get_size(&scratchpad)
    }

    /// oneDNN's name of the implementation, such as `brgconv:avx512_core`.
    var implementation: String {
        var name: UnsafePointer<CChar>?
        let status = dnnl_primitive_desc_query(handle, dnnl_query_impl_info_str, 0, &name)
        guard status == dnnl_success, let name else { return "unknown" }
        return String(cString: name)
    }

    /// Whether it is the plain loop that exists for every case and is up to a hundred times slower.
    var isReference: Bool { implementation.hasPrefix("ref") || implementation.contains(":ref") }
}
