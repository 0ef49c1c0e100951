import CGeePS
import Foundation
import GeePSABI
import Testing

@Suite("C interface")
struct ABITests {
    @Test func everyStatusHasAName() {
        #expect(geeps_abi_version() == UInt32(GEEPS_ABI_VERSION))
        let names = (Int32(0)..<40).map { String(cString: geeps_status_name($0)) }
            .filter { $0 != "GEEPS_UNKNOWN" }
        #expect(names.count == 20)
        #expect(Set(names).count == names.count)
        #expect(String(cString: geeps_status_name(10)) == "GEEPS_PEER_LOST")
    }

    @Test func aStepIsTheOptimisers() throws {
        let job = try TestJob.joined([1, 2, 3], rule: TestJob.sgd(rate: 0.5))
        #expect(try job.read(3) == [1, 2, 3])
        try job.step([1, 0, -2])
        #expect(try job.read(3) == [0.5, 2, 4])
        try check(geeps_set_learning_rate(job.handle, 0, 0.25))
        try job.step([1, 0, -2])
        #expect(try job.read(3) == [0.25, 2, 4.5])
    }

    @Test func whatNoPieceCoversIsZero() throws {
        let job = try TestJob.joined([1, 1, 1, 1, 1], rule: TestJob.sgd(rate: 1))
        for _ in 0..<3 {
            try check(job.update([(3, [1]), (1, [0.5])]))
            try check(geeps_clock(job.handle, nil))
            _ = try job.read(1)
        }
        #expect(try job.read(5) == [1, -0.5, 1, -2, 1])
    }

    @Test func updatesOfOneClockAddUp() throws {
        let job = try TestJob.joined([8], rule: TestJob.sgd(rate: 1))
        for _ in 0..<2 {
            try check(job.update([(0, [1])]))
            try job.step([2])
        }
        #expect(try job.read(1) == [2])
    }

    private static let misfits: [[(UInt64, [Float])]] = [
        [(0, [1, 1]), (1, [1])], [(3, [1])], [(.max, [1, 1])], [],
    ]

    @Test(arguments: misfits.indices) func piecesThatDoNotFitAreRefused(_ misfit: Int) throws {
        let pieces = Self.misfits[misfit]
        let job = try TestJob.joined([1, 1, 1], rule: TestJob.sgd(rate: 1))
        #expect(refusal(job.update(pieces)).status == 1)
        try job.step([1, 1, 1])
        #expect(try job.read(3) == [0, 0, 0])
    }

    @Test func optionsAreChecked() throws {
        let job = try TestJob()
        let unknown = refusal(geeps_set(job.handle, "ranks", "0"))
        #expect(unknown.status == 1)
        #expect(
            unknown.message.contains("unknown option 'ranks', expected one of rank, world_size"))
        #expect(refusal(geeps_set(job.handle, "staleness", "1025")).message.contains("1024"))
        try check(geeps_set(job.handle, "staleness", "1024"))
        #expect(refusal(geeps_set(job.handle, "wait_timeout", "0")).status == 1)
        #expect(refusal(geeps_set(job.handle, "keeper_threads", "65")).message.contains("64"))
        try check(geeps_set(job.handle, "keeper_threads", "64"))
        try check(geeps_set(job.handle, "rank", "2"))
        try job.add("a", count: 1, rule: TestJob.sgd(rate: 1))
        #expect(refusal(geeps_join(job.handle)).message.contains("ranks go from 0 to 0"))
    }

    @Test func callsOutOfOrderAreRefused() throws {
        let job = try TestJob()
        var lease: OpaquePointer?
        var values: UnsafePointer<Float>?
        #expect(
            refusal(geeps_read(job.handle, 0, &lease, &values, nil)).message
                == "geeps_read comes after geeps_join")
        #expect(refusal(geeps_join(job.handle)).message.contains("at least one table"))
        try job.add("a", count: 3, rule: TestJob.sgd(rate: 1))
        var adam = TestJob.sgd(rate: 1)
        adam.kind = 2
        var table: UInt32 = 0
        #expect(refusal(geeps_table_create(job.handle, "b", 1, &adam, &table)).status == 1)
        var sgd = TestJob.sgd(rate: 1)
        #expect(refusal(geeps_table_create(job.handle, "a", 1, &sgd, &table)).status == 1)
        try check(geeps_join(job.handle))
        #expect(refusal(geeps_set(job.handle, "rank", "0")).message.contains("joined"))
        #expect(refusal(geeps_read(job.handle, 1, &lease, &values, nil)).status == 1)
        try check(geeps_close(job.handle, 5))
        try check(geeps_close(job.handle, 5))
        #expect(refusal(geeps_read(job.handle, 0, &lease, &values, nil)).status == 16)
    }

    @Test func stateGoesOutAndIn() throws {
        let rule = TestJob.sgd(rate: 1, momentum: 0.5)
        let job = try TestJob.joined([0, 0], rule: rule)
        try job.step([1, 2])
        try job.step([1, 2])
        var buffer: [Float] = [9, 9]
        var steps: UInt64 = 0
        try check(geeps_state_read(job.handle, 0, 0, &buffer, 2, &steps))
        #expect(buffer == [1.5, 3] && steps == 2)
        var name: UnsafePointer<CChar>?
        try check(geeps_state_name(job.handle, 0, 0, &name))
        #expect(name.map { String(cString: $0) } == "momentum_buffer")
        #expect(refusal(geeps_state_name(job.handle, 0, 1, &name)).status == 1)

        let other = try TestJob.joined([7, 7], rule: rule)
        _ = try other.read(1)
        try check(geeps_state_write(other.handle, 0, 0, buffer, 2, steps))
        try check(geeps_write(other.handle, 0, [10, 20], 2))
        try other.step([1, 2])
        #expect(try other.read(2) == [8.25, 16.5])
    }

    @Test func aRuleMayChangeItsNumbers() throws {
        let job = try TestJob.joined([4], rule: TestJob.sgd(rate: 0.5))
        try job.step([1])
        var decay = TestJob.sgd(rate: 0.5)
        decay.weight_decay = 1
        try check(geeps_set_rule(job.handle, 0, &decay))
        try job.step([0])
        #expect(try job.read(1) == [1.75])
        var momentum = TestJob.sgd(rate: 0.5, momentum: 0.9)
        #expect(refusal(geeps_set_rule(job.handle, 0, &momentum)).status == 1)
    }

    @Test func aLeaseMayComeBackLateAndFromAnotherThread() throws {
        let job = try TestJob.joined([1, 2], rule: TestJob.sgd(rate: 1))
        var lease: OpaquePointer?
        var values: UnsafePointer<Float>?
        try check(geeps_read(job.handle, 0, &lease, &values, nil))
        try job.step([1, 1])
        // Held back: the rows that are lent may not change.
        let early = geeps_wait(job.handle, 0, 0.05)
        #expect(refusal(early).status == 2)
        #expect(values?[0] == 1)
        let held = Held(lease)
        Thread.detachNewThread { geeps_release(held.lease) }
        // The memory comes back in one of the next calls.
        var status: Int32 = 2
        for _ in 0..<200 where status != 0 { status = geeps_wait(job.handle, 0, 0.05) }
        try check(status)
        #expect(try job.read(2) == [0, 1])
        try check(geeps_read(job.handle, 0, &lease, &values, nil))
        try check(geeps_close(job.handle, 5))
        #expect(values?[1] == 1)
        geeps_release(lease)
    }

    @Test func errorsBelongToTheirThread() throws {
        let job = try TestJob()
        #expect(geeps_set(job.handle, "first", "") == 1)
        let seen = Seen()
        let thread = Thread {
            _ = geeps_set(job.handle, "second", "")
            seen.message = String(cString: geeps_last_error())
            seen.isDone.signal()
        }
        thread.start()
        seen.isDone.wait()
        #expect(seen.message.contains("'second'"))
        #expect(String(cString: geeps_last_error()).contains("'first'"))
    }

    private final class Seen: @unchecked Sendable {
        // Sendable: `isDone` orders the two threads.
        var message = ""
        let isDone = DispatchSemaphore(value: 0)
    }

    private struct Held: @unchecked Sendable {
        // Sendable: a lease may be released from any thread.
        let lease: OpaquePointer?

        init(_ lease: OpaquePointer?) { self.lease = lease }
    }
}

@Suite("Two-phase clock")
struct TwoPhaseTests {
    private func begin(_ job: TestJob, _ gradient: [Float]) throws -> Double {
        try check(geeps_clock_begin(job.handle))
        try check(job.update([(0, gradient)]))
        try check(geeps_clock(job.handle, nil))
        var norm = 0.0
        try check(geeps_gradient_norm(job.handle, &norm, 20))
        return norm
    }

    @Test(arguments: ["resident", "managed"])
    func gradientsAreScaledOrDropped(memory: String) throws {
        let job = try TestJob.joined(
            [10, 10], rule: TestJob.sgd(rate: 1, momentum: 0.5), options: ["memory": memory])
        #expect(try begin(job, [3, 4]) == 5)
        #expect(refusal(geeps_clock_begin(job.handle)).status == 1)
        try check(geeps_clock_finish(job.handle, 0.5, 0))
        #expect(try job.read(2) == [8.5, 8])
        #expect(try begin(job, [.infinity, 0]) == .infinity)
        try check(geeps_clock_finish(job.handle, 0, 1))
        #expect(try job.read(2) == [8.5, 8])
        // What has not come yet cannot be dropped.
        try check(geeps_clock_begin(job.handle))
        #expect(refusal(geeps_clock_finish(job.handle, 0, 1)).message.contains("gradient_norm"))
        try check(job.update([(0, [0, 0])]))
        try check(geeps_clock(job.handle, nil))
        var norm = 1.0
        try check(geeps_gradient_norm(job.handle, &norm, 20))
        try check(geeps_clock_finish(job.handle, 0, 1))
        // One step in one phase: the buffer is what two steps made of it.
        try job.step([1, 0])
        #expect(try job.read(2) == [6.75, 7])
        #expect(refusal(geeps_clock_finish(job.handle, 1, 0)).status == 1)
    }

    @Test func theNormIsThatOfTheMeanOverAllProcesses() async throws {
        let port = try #require(freePort())
        let values = try await withThrowingTaskGroup(of: [Float].self) { group in
            for rank in 0..<2 {
                group.addTask {
                    try await onThread {
                        let options = [
                            "rank": "\(rank)", "world_size": "2",
                            "rendezvous": "127.0.0.1:\(port)",
                        ]
                        let job = try TestJob.joined(
                            [Float](repeating: 0, count: 300), rule: TestJob.sgd(rate: 1),
                            options: options)
                        var gradient = [Float](repeating: 0, count: 300)
                        gradient[rank * 299] = rank == 0 ? 6 : 8
                        let norm = try begin(job, gradient)
                        #expect(norm == 5)
                        try check(geeps_clock_finish(job.handle, 0.1, 0))
                        let values = try job.read(300)
                        try check(geeps_close(job.handle, 20))
                        return values
                    }
                }
            }
            return try await group.reduce(into: [[Float]]()) { $0.append($1) }
        }
        #expect(values[0] == values[1])
        #expect(abs(values[0][0] + 0.3) < 1e-6 && abs(values[0][299] + 0.4) < 1e-6)
    }
}

/// Runs what may block on a thread of its own.
func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
}

/// A port of 127.0.0.1 that nobody listens on right now.
func freePort() -> UInt16? {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            bind(descriptor, generic, length) == 0
                ? getsockname(descriptor, generic, &length) : -1
        }
    }
    return status == 0 ? UInt16(bigEndian: address.sin_port) : nil
}

@Suite("Managed memory in C")
struct ManagedTests {
    @Test func localDataComesBackOnceWithinTheBudget() throws {
        let job = try TestJob.joined(
            [Float](repeating: 1, count: 256), rule: TestJob.sgd(rate: 1),
            options: ["memory": "managed", "budget_bytes": "8192"])
        var locals: [UInt32] = []
        for index in 0..<4 {
            var local: UInt32 = 0
            try check(geeps_local_create(job.handle, "activation \(index)", 2048, &local))
            locals.append(local)
        }
        var memory = geeps_memory()
        for step in 0..<5 {
            let before = memory
            #expect(try job.read(1) == [Float(1 - step)])
            for local in locals {
                try check(
                    geeps_local_put(
                        job.handle, local,
                        [Float](repeating: Float(step) + Float(local), count: 512), nil))
            }
            for local in locals.reversed() {
                var lease: OpaquePointer?
                var bytes: UnsafeRawPointer?
                try check(geeps_local_get(job.handle, local, &lease, &bytes))
                let values = UnsafeRawBufferPointer(start: bytes, count: 2048).bindMemory(
                    to: Float.self)
                #expect(values.allSatisfy { $0 == Float(step) + Float(local) })
                geeps_release(lease)
            }
            try job.step([Float](repeating: 1, count: 256))
            memory = try settledMemory(job)
            if step >= 3 {
                // Followed: what moves is what the plan says.
                #expect(memory.plan_device_bytes <= 8192 && memory.plan_device_bytes > 0)
                #expect(memory.bytes_out - before.bytes_out == memory.plan_bytes_out)
                #expect(memory.served_on_demand == before.served_on_demand)
            }
        }
        #expect(memory.plans_followed >= 1)
    }

    /// Counters once nothing moves any more: copies out go on after the clock.
    private func settledMemory(_ job: TestJob) throws -> geeps_memory {
        var memory = geeps_memory()
        var bytes: UInt64 = .max
        var quiet = 0
        while quiet < 5 {
            try check(geeps_memory_count(job.handle, &memory, MemoryLayout<geeps_memory>.size))
            quiet = UInt64(memory.bytes_out) == bytes ? quiet + 1 : 0
            bytes = UInt64(memory.bytes_out)
            usleep(10_000)
        }
        return memory
    }

    @Test(arguments: [1 << 14, 4096])
    func whatThePlanKeepsOnTheDeviceStaysWithTheCaller(budget: Int) throws {
        let job = try TestJob.joined(
            [Float](repeating: 1, count: 256), rule: TestJob.sgd(rate: 1),
            options: ["memory": "managed", "budget_bytes": String(budget)])
        var locals = [UInt32](repeating: 0, count: 2)
        for index in locals.indices {
            try check(geeps_local_create(job.handle, "activation \(index)", 2048, &locals[index]))
        }
        let made = locals.map { _ in UnsafeMutablePointer<Float>.allocate(capacity: 512) }
        defer { for memory in made { memory.deallocate() } }
        var memory = geeps_memory()
        var left: [Int32] = []
        for step in 0..<5 {
            _ = try job.read(1)
            left = try locals.map { local in
                made[Int(local)].update(repeating: Float(step) + Float(local), count: 512)
                var stays: Int32 = -1
                try check(geeps_local_put(job.handle, local, made[Int(local)], &stays))
                return stays
            }
            for local in locals.reversed() {
                var (lease, bytes): (OpaquePointer?, UnsafeRawPointer?) = (nil, nil)
                try check(geeps_local_get(job.handle, local, &lease, &bytes))
                let values = try #require(bytes?.assumingMemoryBound(to: Float.self))
                #expect((0..<512).allSatisfy { values[$0] == Float(step) + Float(local) })
                #expect((values == made[Int(local)]) == (left[Int(local)] == 1))
                geeps_release(lease)
            }
            try job.step([Float](repeating: 1, count: 256))
            memory = try settledMemory(job)
        }
        #expect(memory.plan_device_bytes <= budget)
        // 1 KiB of rows and one of the two fit 4 KiB.
        #expect(left == (budget > 4096 ? [1, 1] : [1, 0]))
        #expect(memory.plan_left_bytes == (budget > 4096 ? 4096 : 2048))
    }

    @Test(arguments: ["resident", "managed"], ["1", "2"])
    func noUpdateThatCameTooLateIsLost(memory: String, keepers: String) throws {
        // More keepers than one: lanes instead of the keeper's rows in place.
        let job = try TestJob.joined(
            [1], rule: TestJob.sgd(rate: 1), options: ["memory": memory, "keepers": keepers])
        for step in 0..<6 {
            _ = try job.read(1)
            try check(job.update([(0, [1])]))
            // Not planned: the table's clock has been raised.
            if step == 3 { try check(job.update([(0, [1])])) }
            try check(geeps_clock(job.handle, nil))
        }
        #expect(try job.read(1) == [-6])
    }

    @Test func rowsOnTheDeviceFollowEveryStep() throws {
        // Several blocks, and a step held back and let go on now and then.
        let count = 300_000
        let job = try TestJob.joined(
            [Float](repeating: 1, count: count), rule: TestJob.sgd(rate: 1),
            options: ["memory": "managed", "keeper_threads": "2"])
        let gradient = [Float](repeating: 1, count: count)
        for step in 0..<8 {
            let found = try job.read(count)
            #expect(found.allSatisfy { $0 == Float(1 - step) })
            guard step % 3 == 2 else {
                try job.step(gradient)
                continue
            }
            try check(geeps_clock_begin(job.handle))
            try job.step(gradient)
            var norm = 0.0
            try check(geeps_gradient_norm(job.handle, &norm, 20))
            try check(geeps_clock_finish(job.handle, 1, 0))
        }
        var counters = geeps_counters()
        try check(geeps_count(job.handle, &counters, MemoryLayout<geeps_counters>.size))
        // Not a copy of the keeper's, which would be new anyway.
        #expect(counters.reads_in_place >= 6)
        let memory = try settledMemory(job)
        #expect(memory.plan_bytes_in == memory.plan_bytes_out)
    }

    @Test func aPeekIsNoPartOfThePlan() throws {
        let job = try TestJob.joined(
            [1, 2], rule: TestJob.sgd(rate: 1), options: ["memory": "managed"])
        for step in 0..<4 {
            _ = try job.read(1)
            if step == 2 {
                var lease: OpaquePointer?
                var values: UnsafePointer<Float>?
                try check(geeps_peek(job.handle, 0, &lease, &values, nil))
                #expect(values?[1] == 0)
                geeps_release(lease)
            }
            try job.step([1, 1])
        }
        var counters = geeps_counters()
        try check(geeps_count(job.handle, &counters, MemoryLayout<geeps_counters>.size))
        #expect(counters.ticks == 4 && counters.plan_deviations == 0)
    }
}

@Suite("Plan in C")
struct PlanTests {
    private func plan(budget: UInt64) throws -> geeps_plan_report {
        // Two layers of 4 KiB with an activation of 8 KiB between them.
        let steps: [(geeps_access_kind, UInt32, Int32)] = [
            (GEEPS_ACCESS_READ, 0, 0), (GEEPS_ACCESS_LOCAL, 0, 0), (GEEPS_ACCESS_END_LOCAL, 0, 1),
            (GEEPS_ACCESS_END_READ, 0, 0), (GEEPS_ACCESS_READ, 1, 0),
            (GEEPS_ACCESS_END_READ, 1, 0), (GEEPS_ACCESS_UPDATE, 1, 0),
            (GEEPS_ACCESS_END_UPDATE, 1, 0), (GEEPS_ACCESS_LOCAL, 0, 1),
            (GEEPS_ACCESS_END_LOCAL, 0, 0), (GEEPS_ACCESS_UPDATE, 0, 0),
            (GEEPS_ACCESS_END_UPDATE, 0, 0), (GEEPS_ACCESS_CLOCK, 0, 0),
        ]
        let accesses = steps.map {
            geeps_access(kind: Int32($0.0.rawValue), id: $0.1, matters: $0.2)
        }
        var report = geeps_plan_report()
        try check(
            geeps_plan(
                accesses, accesses.count, [1024, 1024], 2, [8192], 1, budget, &report))
        return report
    }

    @Test func aBudgetDecidesWhatMoves() throws {
        let free = try plan(budget: 0)
        #expect(free.locals_that_move == 0 && free.full_bytes >= free.least_bytes)
        let tight = try plan(budget: free.least_bytes)
        #expect(tight.device_bytes <= free.least_bytes)
        #expect(tight.bytes_in + tight.bytes_out >= free.bytes_in + free.bytes_out)
        let message = refusal(
            { () -> Int32 in
                do { _ = try plan(budget: free.least_bytes - 64) } catch let error as Refusal {
                    return error.status
                } catch {}
                return 0
            }()
        ).message
        #expect(message.contains("budget"))
    }

    @Test func accessesToNothingAreRefused() {
        var report = geeps_plan_report()
        let accesses = [geeps_access(kind: 0, id: 1, matters: 0)]
        #expect(geeps_plan(accesses, 1, [5], 1, nil, 0, 0, &report) == 1)
        let unknown = [geeps_access(kind: 7, id: 0, matters: 0)]
        #expect(geeps_plan(unknown, 1, [5], 1, nil, 0, 0, &report) == 1)
    }
}
