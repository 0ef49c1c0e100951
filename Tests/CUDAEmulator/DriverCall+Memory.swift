import GeePSCore
import CGeePSShims
import Glibc

/// What an operation does with a range of memory.
struct Access {
    var range: AddressRange
    var isWrite: Bool

    /// Nil for no bytes at all.
    init?(_ address: UInt, bytes: Int, isWrite: Bool) {
        guard bytes > 0 else { return nil }
        let (end, overflows) = address.addingReportingOverflow(UInt(bytes))
        range = address..<(overflows ? .max : max(end, address))
        self.isWrite = isWrite
    }
}

/// What the other side of a copy over the link is.
enum HostMemory {
    case pinned(Allocation)
    case pageable
}

extension DriverCall {
    // MARK: Allocation

    func allocate(
        _ address: UnsafeMutablePointer<geeps_cu_address>?, _ bytes: Int
    ) throws(Refusal) {
        let address = try out(address)
        let context = try currentContext()
        guard bytes > 0 else { throw refuse(Status.invalidValue, "asked for no bytes") }
        let used = state.memory.deviceBytes[context.handle] ?? 0
        guard bytes <= emulator.configuration.memoryBytes - used,
            (bytes + 511) / 512 * 512 <= emulator.configuration.memoryBytes - used
        else { throw fail(Status.outOfMemory) }
        address.pointee = UInt64(try make(.device, bytes, context).range.lowerBound)
    }

    func allocateHost(
        _ address: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ bytes: Int, flags: UInt32
    ) throws(Refusal) {
        let address = try out(address)
        let context = try currentContext()
        guard bytes > 0 else { throw refuse(Status.invalidValue, "asked for no bytes") }
        guard flags & ~7 == 0 else {
            throw refuse(Status.invalidValue, "flags \(flags) are not known")
        }
        guard bytes <= emulator.configuration.pinnedBytes - state.memory.pinnedBytes else {
            throw fail(Status.outOfMemory)
        }
        let allocation = try make(.pinned, bytes, context)
        address.pointee = UnsafeMutableRawPointer(bitPattern: allocation.range.lowerBound)
    }

    private func make(
        _ kind: Allocation.Kind, _ bytes: Int, _ context: ContextObject
    ) throws(Refusal) -> Allocation {
        state.operationCount += 1
        guard
            let allocation = state.memory.make(
                kind, bytes: bytes, context: context.handle, number: state.operationCount)
        else { throw fail(Status.outOfMemory) }
        return allocation
    }

    func free(_ address: UInt, _ kind: Allocation.Kind) throws(Refusal) {
        guard let allocation = state.memory.find(address) else {
            throw refuse(Status.invalidValue, "\(hex(address)) was never allocated")
        }
        if let number = allocation.freedBy {
            throw refuse(
                Status.invalidValue,
                "freed before, by operation \(number): \(allocation.description)")
        }
        guard allocation.range.lowerBound == address, allocation.kind == kind else {
            throw refuse(
                Status.invalidValue,
                "\(hex(address)) is not the start of \(kind.noun) but in \(allocation.description)")
        }
        let operation = state.makeHostOperation(function)
        let isOrdered = state.note(
            [allocation.range], of: allocation, by: operation, isWrite: true, verb: "frees")
        state.memory.free(
            allocation, number: operation.number, isBusy: !isOrdered || state.lateOperations > 0)
    }

    // MARK: Ranges

    /// Whether `range` is memory of other code's, of which nothing is known.
    func isForeign(_ range: AddressRange) -> Bool {
        emulator.configuration.hasForeignCode && state.memory.overlaps(range) == nil
    }

    /// The living device memory of the current context that holds `range`.
    func deviceMemory(_ range: AddressRange) throws(Refusal) -> Allocation {
        let allocation = try livingMemory(range, .device)
        guard allocation.context == context?.handle else {
            throw refuse(
                Status.invalidValue, "\(hex(range)) belongs to another context than the current")
        }
        return allocation
    }

    private func livingMemory(
        _ range: AddressRange, _ kind: Allocation.Kind
    ) throws(Refusal) -> Allocation {
        guard let allocation = state.memory.overlaps(range) else {
            throw refuse(
                Status.invalidValue, "\(hex(range)) is not \(kind.noun) but unknown memory")
        }
        if let number = allocation.freedBy {
            throw refuse(
                Status.invalidValue,
                "\(hex(range)) was freed by operation \(number): \(allocation.description)")
        }
        guard allocation.kind == kind else {
            throw refuse(
                Status.invalidValue,
                "\(hex(range)) is not \(kind.noun) but in \(allocation.description)")
        }
        guard allocation.range.lowerBound <= range.lowerBound,
            range.upperBound <= allocation.range.upperBound
        else {
            throw refuse(
                Status.invalidValue, "\(hex(range)) goes beyond \(allocation.description)")
        }
        return allocation
    }

    /// The host's side of a copy; memory of the emulator must be pinned and alive.
    func hostMemory(_ range: AddressRange) throws(Refusal) -> HostMemory {
        guard state.memory.overlaps(range) != nil else { return .pageable }
        return .pinned(try livingMemory(range, .pinned))
    }

    // MARK: Copies

    enum Copy { case toDevice, toHost, inside }

    /// A copy on a stream; one from or to pageable memory is staged, or waited for, as by the driver.
    func copy(
        _ kind: Copy, to target: UInt, from source: UInt, _ bytes: Int, on handle: OpaquePointer?
    ) throws(Refusal) -> CUDAEmulator.Wait? {
        let stream = try stream(handle)
        guard let write = Access(target, bytes: bytes, isWrite: true),
            let read = Access(source, bytes: bytes, isWrite: false)
        else { return nil }
        var places: [(Access, Allocation)] = []
        var isStaged = false
        var isWaitedFor = false
        switch kind {
        case .inside:
            for access in [read, write] where !isForeign(access.range) {
                places.append((access, try deviceMemory(access.range)))
            }
        case .toDevice:
            places = [(write, try deviceMemory(write.range))]
            switch try hostMemory(read.range) {
            case .pinned(let memory): places.append((read, memory))
            case .pageable: isStaged = true
            }
        case .toHost:
            places = [(read, try deviceMemory(read.range))]
            switch try hostMemory(write.range) {
            case .pinned(let memory): places.append((write, memory))
            case .pageable: isWaitedFor = true
            }
        }
        if kind == .inside && read.range.overlaps(write.range) {
            throw refuse(Status.invalidValue, "source and target of a copy overlap")
        }
        let staged = isStaged ? Staging(source, bytes) : nil
        emulator.put(function, on: stream, places) {
            memcpy(pointer(target), staged?.bytes ?? pointer(source), bytes)
        }
        return isWaitedFor ? emulator.wait(for: stream) : nil
    }

    /// A copy that the calling thread waits for; it and blocking streams wait for each other.
    func copyNow(
        _ kind: Copy, to target: UInt, from source: UInt, _ bytes: Int
    ) throws(Refusal) -> CUDAEmulator.Wait? {
        guard let write = Access(target, bytes: bytes, isWrite: true),
            let read = Access(source, bytes: bytes, isWrite: false)
        else { return nil }
        let (onDevice, onHost) = kind == .toDevice ? (write, read) : (read, write)
        var places = [(onDevice, try deviceMemory(onDevice.range))]
        if case .pinned(let memory) = try hostMemory(onHost.range) {
            places.append((onHost, memory))
        }
        let blocking = state.streams.values.filter {
            $0.isBlocking && $0.context == context?.handle
        }
        for stream in blocking { state.hostClock.merge(stream.clock) }
        let operation = state.makeHostOperation(function)
        for (access, memory) in places {
            state.note([access.range], of: memory, by: operation, isWrite: access.isWrite)
        }
        return { [emulator] in
            for stream in blocking { CUDAEmulator.drain(stream) }
            memcpy(pointer(target), pointer(source), bytes)
            return emulator.lock.withLock { emulator.state.breakdown } ?? Status.success
        }
    }

    /// Sets `count` values of `bytes` bytes each.
    func set(
        _ target: UInt, count: Int, bytes: Int, on handle: OpaquePointer?,
        _ body: @escaping @Sendable () -> Void
    ) throws(Refusal) {
        let stream = try stream(handle)
        guard target % UInt(bytes) == 0 else {
            throw refuse(
                Status.invalidValue, "\(hex(target)) is not aligned to \(bytes) bytes")
        }
        guard let write = Access(target, bytes: count * bytes, isWrite: true) else { return }
        emulator.put(function, on: stream, [(write, try deviceMemory(write.range))], body)
    }
}

/// A copy of pageable memory, made during the call.
private final class Staging: @unchecked Sendable {
    // Sendable: written in `init` only.
    let bytes: UnsafeMutableRawPointer

    init(_ source: UInt, _ count: Int) {
        bytes = .allocate(byteCount: count, alignment: 64)
        memcpy(bytes, pointer(source), count)
    }

    deinit { bytes.deallocate() }
}

/// The memory at an address; the caller has looked that there is some.
func pointer(_ address: UInt) -> UnsafeMutableRawPointer {
    guard let pointer = UnsafeMutableRawPointer(bitPattern: address) else {
        preconditionFailure("address zero was taken for memory")
    }
    return pointer
}
