import CGeePSShims
import GeePSCore
import GeePSDevice

extension DriverCall {
    // MARK: Contexts

    func retain(
        _ result: UnsafeMutablePointer<OpaquePointer?>?, _ device: Int32
    ) throws(Refusal) {
        let result = try out(result)
        guard 0..<Int32(emulator.configuration.deviceCount) ~= device else {
            throw fail(Status.invalidDevice)
        }
        let context =
            state.primaryContext(of: device)
            ?? ContextObject(handle: CUDAEmulator.makeHandle(), device: device)
        context.retainCount += 1
        state.contexts[context.handle] = context
        result.pointee = context.handle
    }

    func release(_ device: Int32) throws(Refusal) {
        guard let context = state.primaryContext(of: device) else {
            throw refuse(Status.invalidContext, "nobody holds the context of device \(device)")
        }
        context.retainCount -= 1
        if context.retainCount == 0 { state.contexts[context.handle] = nil }
    }

    func setCurrent(_ handle: OpaquePointer?) throws(Refusal) {
        if let handle, state.contexts[handle] == nil {
            throw refuse(Status.invalidContext, "\(handle) is no living context")
        }
        ThreadState.context = handle
    }

    // MARK: Streams

    func makeStream(
        _ result: UnsafeMutablePointer<OpaquePointer?>?, flags: UInt32
    ) throws(Refusal) {
        let result = try out(result)
        let stream = try newStream(
            isBlocking: flags & UInt32(GEEPS_CU_STREAM_NON_BLOCKING) == 0)
        state.streams[stream.handle] = stream
        result.pointee = stream.handle
    }

    private func newStream(isBlocking: Bool) throws(Refusal) -> StreamObject {
        let context = try currentContext()
        let agent = state.agentCount
        state.agentCount += 1
        let host: any DeviceStream
        do {
            host = try emulator.host.makeStream(name: "emulated \(agent)")
        } catch {
            throw fail(Status.outOfMemory)
        }
        return StreamObject(
            handle: CUDAEmulator.makeHandle(), context: context.handle, agent: agent, host: host,
            isBlocking: isBlocking)
    }

    /// The default stream of the current context; streams that wait for it are not emulated.
    func defaultStream() throws(Refusal) -> StreamObject {
        let context = try currentContext()
        if let stream = state.defaultStreams[context.handle] { return stream }
        let stream = try newStream(isBlocking: false)
        state.defaultStreams[context.handle] = stream
        return stream
    }

    func destroyStream(_ handle: OpaquePointer?) throws(Refusal) {
        let stream = try stream(handle)
        state.streams[stream.handle] = nil
        state.retiredStreams.append(stream)
    }

    func query(_ stream: StreamObject) throws(Refusal) {
        guard stream.pending == 0 else { throw fail(Status.notReady) }
        state.hostClock.merge(stream.clock)
    }

    // MARK: Events

    func makeEvent(
        _ result: UnsafeMutablePointer<OpaquePointer?>?, flags: UInt32
    ) throws(Refusal) {
        let result = try out(result)
        let event = EventObject(
            handle: CUDAEmulator.makeHandle(), context: try currentContext().handle,
            hasTiming: flags & UInt32(GEEPS_CU_EVENT_DISABLE_TIMING) == 0)
        state.events[event.handle] = event
        result.pointee = event.handle
    }

    func destroyEvent(_ handle: OpaquePointer?) throws(Refusal) {
        state.events[try living(handle).handle] = nil
    }

    func record(_ event: OpaquePointer?, on stream: OpaquePointer?) throws(Refusal) {
        let stream = try self.stream(stream)
        let event = try living(event)
        guard event.context == stream.context else {
            throw refuse(Status.invalidHandle, "the event belongs to another context")
        }
        stream.clock.merge(state.hostClock)
        let mark: any DeviceEvent
        do { mark = try emulator.host.makeEvent() } catch { throw fail(Status.outOfMemory) }
        let record = EventRecord(mark: mark, clock: stream.clock)
        event.record = record
        stream.pending += 1
        stream.host.run(label: "event") { [emulator] in
            emulator.lock.withLock {
                record.nanoseconds = monotonicNanoseconds()
                stream.pending -= 1
            }
        }
        stream.host.record(mark)
    }

    func wait(_ stream: OpaquePointer?, for event: OpaquePointer?) throws(Refusal) {
        let stream = try self.stream(stream)
        guard let record = try living(event).record else { return }
        stream.clock.merge(record.clock)
        stream.host.wait(for: record.mark)
    }

    func query(_ event: EventObject) throws(Refusal) {
        guard let record = event.record else { return }
        guard record.mark.isDone else { throw fail(Status.notReady) }
        state.hostClock.merge(record.clock)
    }

    func wait(for event: EventObject) -> CUDAEmulator.Wait? {
        guard let record = event.record else { return nil }
        return { [emulator] in
            try? record.mark.wait(deadline: nil)
            return emulator.lock.withLock {
                emulator.state.hostClock.merge(record.clock)
                return emulator.state.breakdown ?? Status.success
            }
        }
    }

    func elapsed(
        _ result: UnsafeMutablePointer<Float>?, _ start: OpaquePointer?, _ end: OpaquePointer?
    ) throws(Refusal) {
        let result = try out(result)
        let (start, end) = (try living(start), try living(end))
        guard start.hasTiming, end.hasTiming else {
            throw refuse(Status.invalidHandle, "an event without timing has no time")
        }
        guard let first = start.record, let last = end.record else {
            throw refuse(Status.invalidHandle, "an event that was never recorded has no time")
        }
        guard let begun = first.nanoseconds, let ended = last.nanoseconds else {
            throw fail(Status.notReady)
        }
        result.pointee = Float(Double(ended) - Double(begun)) / 1e6
    }

    // MARK: Host functions

    func launchHost(
        _ handle: OpaquePointer?, _ function: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?,
        _ user: UnsafeMutableRawPointer?
    ) throws(Refusal) {
        let stream = try stream(handle)
        guard let function else { throw refuse(Status.invalidValue, "the function is null") }
        let operation = state.makeOperation(self.function, on: stream)
        let address = UInt(bitPattern: user)
        emulator.submit(operation, on: stream) { [emulator] in
            emulator.lock.withLock { emulator.state.hostClock.merge(operation.clock) }
            ThreadState.run(operation) { function(UnsafeMutableRawPointer(bitPattern: address)) }
        }
    }
}
