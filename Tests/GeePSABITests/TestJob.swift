import CGeePS
import Testing

/// What a call answered, when that is not OK.
struct Refusal: Error, CustomStringConvertible {
    let status: Int32
    let message: String

    var description: String { "\(String(cString: geeps_status_name(status))): \(message)" }
}

/// Throws what a call answered, unless that is OK.
func check(_ status: Int32) throws {
    guard status == 0 else {
        throw Refusal(status: status, message: String(cString: geeps_last_error()))
    }
}

/// The refusal of a call that is meant to fail.
func refusal(_ status: Int32) -> Refusal {
    #expect(status != 0)
    return Refusal(status: status, message: String(cString: geeps_last_error()))
}

/// A job through the C interface; destroyed with the object.
final class TestJob: @unchecked Sendable {
    // Sendable: the handle may be used from any thread.
    let handle: OpaquePointer
    private(set) var table: UInt32 = 0

    init(_ options: [String: String] = [:]) throws {
        var handle: OpaquePointer?
        try check(geeps_create(&handle))
        self.handle = try #require(handle)
        for (key, value) in options { try check(geeps_set(self.handle, key, value)) }
    }

    deinit { geeps_destroy(handle) }

    static func sgd(rate: Double, momentum: Double = 0) -> geeps_rule {
        var rule = geeps_rule()
        rule.kind = Int32(GEEPS_RULE_SGD.rawValue)
        rule.learning_rate = rate
        rule.momentum = momentum
        return rule
    }

    @discardableResult
    func add(_ name: String, count: UInt64, rule: geeps_rule) throws -> UInt32 {
        var rule = rule
        try check(geeps_table_create(handle, name, count, &rule, &table))
        return table
    }

    /// A joined job with one table that starts as `values`.
    static func joined(
        _ values: [Float], rule: geeps_rule, options: [String: String] = [:]
    ) throws -> TestJob {
        let job = try TestJob(options)
        try job.add("weights", count: UInt64(values.count), rule: rule)
        try check(geeps_join(job.handle))
        try check(geeps_initialise(job.handle, 0, values, UInt64(values.count)))
        return job
    }

    func read(_ count: Int) throws -> [Float] {
        var lease: OpaquePointer?
        var values: UnsafePointer<Float>?
        try check(geeps_read(handle, 0, &lease, &values, nil))
        defer { geeps_release(lease) }
        return Array(UnsafeBufferPointer(start: values, count: count))
    }

    /// Pieces as (offset, values).
    func update(_ pieces: [(UInt64, [Float])]) -> Int32 {
        var held: [UnsafeMutablePointer<Float>] = []
        defer { for pointer in held { pointer.deallocate() } }
        let given = pieces.map { offset, values in
            let pointer = UnsafeMutablePointer<Float>.allocate(capacity: values.count)
            pointer.initialize(from: values, count: values.count)
            held.append(pointer)
            return geeps_piece(values: pointer, offset: offset, count: UInt64(values.count))
        }
        return geeps_update(handle, 0, given, given.count)
    }

    func step(_ gradient: [Float]) throws {
        try check(update([(0, gradient)]))
        try check(geeps_clock(handle, nil))
    }
}
