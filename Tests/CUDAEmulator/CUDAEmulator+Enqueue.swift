import GeePSCore
import CGeePSShims
import GeePSDevice

extension CUDAEmulator {
    /// Puts work of a library on a stream: runs `body` in the stream's turn.
    ///
    /// The current context of the calling thread must be the stream's, and the ranges must lie in live
    /// device memory; empty ones count for nothing. `body` calls nothing of CUDA.
    ///
    /// - Parameters:
    ///   - name: as findings name the work, "cublasGemmEx".
    ///   - reads: what `body` reads of device memory; may overlap `writes`.
    ///   - writes: what it writes.
    /// - Returns: a `CUresult`; with other than zero `body` is dropped.
    public func enqueue(
        on stream: OpaquePointer?, name: String, reads: [UnsafeRawBufferPointer],
        writes: [UnsafeRawBufferPointer], _ body: @escaping @Sendable () -> Void
    ) -> Int32 {
        call(name, needs: .context, counts: false) { call throws(Refusal) in
            let stream = try call.stream(stream)
            var places: [(Access, Allocation)] = []
            for (ranges, isWrite) in [(reads, false), (writes, true)] {
                for range in ranges {
                    let start = UInt(bitPattern: range.baseAddress)
                    guard let access = Access(start, bytes: range.count, isWrite: isWrite) else {
                        continue
                    }
                    places.append((access, try call.deviceMemory(access.range)))
                }
            }
            self.put(name, on: stream, places, body)
            return nil
        }
    }

    /// Notes that the host touches pinned memory: the host function that runs on the calling thread, or
    /// else the calling thread itself.
    ///
    /// What code of the host reads and writes is not seen otherwise. Ranges outside of pinned memory
    /// count for nothing.
    public func noteHostAccess(
        _ name: String, reads: [UnsafeRawBufferPointer] = [], writes: [UnsafeRawBufferPointer] = []
    ) {
        lock.withLock {
            let running = ThreadState.operation
            let operation = running ?? state.makeHostOperation(name)
            for (ranges, isWrite) in [(reads, false), (writes, true)] {
                for range in ranges {
                    let start = UInt(bitPattern: range.baseAddress)
                    guard let access = Access(start, bytes: range.count, isWrite: isWrite),
                        let memory = state.memory.find(start), memory.kind == .pinned
                    else { continue }
                    guard memory.freedBy == nil, access.range.upperBound <= memory.range.upperBound
                    else {
                        state.findings.append(
                            "\(name): touches \(hex(access.range)), which is not alive in "
                                + memory.description)
                        continue
                    }
                    state.note(
                        [access.range], of: memory, by: operation, isWrite: isWrite,
                        isLate: running != nil)
                }
            }
        }
    }

    /// Puts an operation on a stream; under the lock.
    ///
    /// A context that broke down does no more work.
    @discardableResult
    func put(
        _ name: String, on stream: StreamObject, _ places: [(Access, Allocation)],
        _ body: @escaping @Sendable () -> Void
    ) -> Operation {
        let operation = state.makeOperation(name, on: stream)
        for (access, memory) in places {
            state.note([access.range], of: memory, by: operation, isWrite: access.isWrite)
        }
        submit(operation, on: stream, body)
        return operation
    }

    /// Lets `body` run in the turn of `stream`; under the lock.
    func submit(
        _ operation: Operation, on stream: StreamObject, _ body: @escaping @Sendable () -> Void
    ) {
        stream.pending += 1
        stream.host.run(label: operation.name) { [self] in
            if lock.withLock({ state.breakdown == nil }) { body() }
            lock.withLock { stream.pending -= 1 }
        }
    }

    /// Waits for what is on `stream` as of now, and orders the host behind it.
    func wait(for stream: StreamObject) -> Wait {
        let clock = stream.clock
        return { [self] in
            Self.drain(stream)
            return lock.withLock {
                state.hostClock.merge(clock)
                return state.breakdown ?? Status.success
            }
        }
    }

    /// Waits until everything put on `stream` is done.
    static func drain(_ stream: StreamObject) {
        do throws(DeviceError) {
            try stream.host.synchronise(deadline: nil)
        } catch {
            preconditionFailure("work of the emulator throws nothing, got \(error)")
        }
    }
}
