import CGeePSShims

/// A library's statuses.
struct LibraryStatuses: Sendable {
    var notInitialised: Int32
    var badParameter: Int32
    var notSupported: Int32
    var executionFailed: Int32

    static let cublas = LibraryStatuses(
        notInitialised: 1, badParameter: 7, notSupported: 15, executionFailed: 13)
    static let cudnn = LibraryStatuses(
        notInitialised: 1001, badParameter: 2000, notSupported: 3000, executionFailed: 5000)
}

/// A call of a function of cuBLAS or cuDNN that is going on.
struct LibraryCall {
    let emulator: CUDAEmulator
    let function: String
    let statuses: LibraryStatuses
    let objects: LibraryObjects

    /// One call, from C.
    static func run(
        _ function: String, _ statuses: LibraryStatuses,
        _ body: (LibraryCall) throws(Refusal) -> Void
    ) -> Int32 {
        guard let emulator = CUDAEmulator.current else { return statuses.notInitialised }
        let call = LibraryCall(
            emulator: emulator, function: function, statuses: statuses,
            objects: LibraryObjects.of(emulator))
        if let failure = emulator.begin(function) {
            call.objects.lastError = "\(function) failed as a test wants it"
            return failure
        }
        do throws(Refusal) {
            if let running = ThreadState.operation {
                throw call.refuse("called by a host function, \(running.description)")
            }
            try body(call)
            return 0
        } catch {
            return error.status
        }
    }

    // MARK: Refusals

    /// A refusal that a correct program does not meet.
    func refuse(_ why: String, status: Int32? = nil) -> Refusal {
        emulator.report("\(function): \(why)")
        objects.lastError = why
        return Refusal(status: status ?? statuses.badParameter)
    }

    func require(_ holds: Bool, _ why: @autoclosure () -> String) throws(Refusal) {
        if !holds { throw refuse(why()) }
    }

    /// What the library does not do, and the program should not ask for.
    func requireSupport(_ holds: Bool, _ why: @autoclosure () -> String) throws(Refusal) {
        if !holds { throw refuse(why(), status: statuses.notSupported) }
    }

    // MARK: Objects

    /// Makes an object that `result` points to.
    func make(
        _ object: some LibraryObject, _ result: UnsafeMutablePointer<OpaquePointer?>?
    ) throws(Refusal) {
        guard let result else { throw refuse("there is no place for the result: null") }
        let handle = CUDAEmulator.makeHandle()
        objects.add(object, UInt(bitPattern: handle))
        result.pointee = handle
    }

    /// The object of that handle, which must be alive and of that kind, and a descriptor set.
    func get<Object: LibraryObject>(
        _ handle: OpaquePointer?, _: Object.Type = Object.self, mayBeUnset: Bool = false
    ) throws(Refusal) -> Object {
        let found = objects.find(UInt(bitPattern: handle))
        guard let object = found.object as? Object else {
            throw refuse(
                "expected \(Object.noun), found \(found.object.map { type(of: $0).noun } ?? found.dead)"
            )
        }
        try require(mayBeUnset || object.isSet, "\(Object.noun) was never set")
        return object
    }

    /// Replaces a living object by `object`.
    func set<Object: LibraryObject>(
        _ handle: OpaquePointer?, _ object: Object
    ) throws(Refusal) {
        _ = try get(handle, Object.self, mayBeUnset: true)
        objects.add(object, UInt(bitPattern: handle))
    }

    func destroy<Object: LibraryObject>(
        _ handle: OpaquePointer?, _: Object.Type
    ) throws(Refusal) {
        _ = try get(handle, Object.self, mayBeUnset: true)
        objects.remove(UInt(bitPattern: handle))
    }

    /// A library's own handle, which works in the context it was made in.
    func own<Object: LibraryHandle>(_ handle: OpaquePointer?) throws(Refusal) -> Object {
        let own = try get(handle, Object.self)
        try require(
            own.context == UInt(bitPattern: ThreadState.context),
            "\(Object.noun) was made in another context than the current")
        return own
    }

    /// The current context, for a handle that is made in it.
    func currentContext() throws(Refusal) -> UInt {
        guard let context = ThreadState.context else { throw refuse("no context is current") }
        return UInt(bitPattern: context)
    }

    // MARK: Memory

    /// `count` values of an argument.
    func values(
        _ pointer: UnsafeRawPointer?, _ count: Int, _ name: String
    ) throws(Refusal) -> Values {
        guard let pointer else { throw refuse("\(name) is null") }
        try require(
            UInt(bitPattern: pointer) % 4 == 0, "\(name), \(pointer), is not aligned to its values")
        return Values(
            start: UnsafeMutableRawPointer(mutating: pointer).assumingMemoryBound(to: Float.self),
            count: count)
    }

    /// How a result is mixed with what was there.
    func blend(
        _ alpha: UnsafeRawPointer?, _ beta: UnsafeRawPointer?
    ) throws(Refusal) -> Blend {
        guard let alpha, let beta else { throw refuse("a factor is null") }
        return Blend(
            alpha: alpha.loadUnaligned(as: Float.self), beta: beta.loadUnaligned(as: Float.self))
    }

    // MARK: Work

    /// Puts work on the stream of `handle`.
    ///
    /// - Parameters:
    ///   - writes: must not overlap `reads` but for those that are the same values, with `isInPlace`.
    ///   - changed: of `writes`, what is read, too.
    func put(
        _ handle: some LibraryHandle, reads: [Values], writes: [Values], changed: [Values] = [],
        isInPlace: Bool = false, _ body: @escaping @Sendable () -> Void
    ) throws(Refusal) {
        for write in writes {
            for read in reads where read.bytes.overlaps(write.bytes) {
                try require(
                    isInPlace && read.start == write.start && read.count == write.count,
                    "writes \(hex(write.bytes)) and reads \(hex(read.bytes)), which overlap")
            }
        }
        try put(
            handle, reads: (reads + changed).map(\.buffer), writes: writes.map(\.buffer), body)
    }

    func put(
        _ handle: some LibraryHandle, reads: [UnsafeRawBufferPointer],
        writes: [UnsafeRawBufferPointer], _ body: @escaping @Sendable () -> Void
    ) throws(Refusal) {
        let status = emulator.enqueue(
            on: OpaquePointer(bitPattern: handle.stream), name: function, reads: reads,
            writes: writes, body)
        guard status == Status.success else {
            objects.lastError = "the driver answered \(status)"
            throw Refusal(status: statuses.executionFailed)
        }
    }
}
