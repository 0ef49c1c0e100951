import GeePSCore
import GeePSDevice
import GeePSMemory
import Testing

/// Local data that lives on: a first content before the plan, read back between iterations.
@Suite struct LocalContentTests {
    enum Memory: String, CaseIterable, Sendable {
        case direct, full, least
    }

    /// A counter of 256 values among larger data; one step adds one to it, twice an iteration.
    private final class Subject {
        let manager: AccessManager
        private let store: PlainStore
        private let stream: (any DeviceStream)?
        private let counter: LocalBatch
        private let others: [LocalBatch]
        private static let count = 256

        init(_ memory: Memory, hasStream: Bool) throws {
            let device = HostDevice()
            let tables = [TableLayout(name: "table", rowCount: 4, rowWidth: 4)]
            store = try PlainStore(tables: tables, device: device, seed: 1)
            let configuration = memory == .direct ? nil : MemoryConfiguration()
            let manager = try AccessManager(
                tables: tables, store: store, device: device, staleness: .bulkSynchronous,
                memory: configuration)
            self.manager = manager
            stream = hasStream ? try device.makeStream(name: "application") : nil
            if memory != .direct { manager.applicationStream = stream }
            let counter = try manager.localBatch(name: "counter", byteCount: Self.count * 4)
            let others = try (0..<3).map { index in
                try manager.localBatch(name: "other\(index)", byteCount: 4096)
            }
            (self.counter, self.others) = (counter, others)
            try manager.write((0..<Self.count).map { Float($0) }, to: counter)
            let plan = AccessPlan(Self.accesses(counter, others))
            if memory == .least {
                let planner = try PlacementPlanner(manager.problem(for: plan))
                let placement = try planner.placement(budgetBytes: planner.leastBytes)
                // The counter is not all the time on the device, or it would not be copied.
                #expect(placement.homes[0] == .moves)
                try manager.follow(plan, placement: placement)
            } else {
                try manager.follow(plan)
            }
        }

        func close() {
            manager.close()
            store.close()
            stream?.close()
        }

        private static func accesses(_ counter: LocalBatch, _ others: [LocalBatch]) -> [Access] {
            var accesses: [Access] = []
            for _ in 0..<2 {
                accesses.append(Access(.local, batch: counter.id, matters: true))
                accesses.append(Access(.endLocal, batch: counter.id, matters: true))
                for other in others {
                    accesses.append(Access(.local, batch: other.id, matters: false))
                    accesses.append(Access(.endLocal, batch: other.id, matters: false))
                }
            }
            return accesses + [Access(.clock)]
        }

        func iterate() throws {
            for _ in 0..<2 {
                let buffer = try manager.local(counter, fetch: true)
                nonisolated(unsafe) let values = buffer.floats
                let add = { @Sendable () throws(DeviceError) in
                    for index in 0..<Self.count { values[index] += 1 }
                }
                if let stream { stream.run(add) } else { try add() }
                buffer.release(keep: true)
                for other in others { try manager.local(other, fetch: false).release(keep: false) }
            }
            manager.clock()
        }

        func values() throws -> [Float] {
            if manager.managedCounters == nil { try stream?.synchronise() }
            return try manager.values(of: counter)
        }
    }

    @Test(arguments: Memory.allCases, [true, false])
    func whatWasWrittenIsThereAndWhatWasKeptComesBack(memory: Memory, hasStream: Bool) throws {
        let subject = try Subject(memory, hasStream: hasStream)
        defer { subject.close() }
        let start = (0..<256).map { Float($0) }
        #expect(try subject.values() == start)
        for iteration in 1...4 {
            try subject.iterate()
            let expected = start.map { $0 + Float(2 * iteration) }
            #expect(try subject.values() == expected)
        }
        // Reading back is no access: the plan is followed as before.
        #expect(subject.manager.counters.planDeviations == 0)
    }

    /// What one plan left with the caller is found under the next, and nobody waits for its place.
    @Test func contentThatWasLeftOutlivesItsPlan() throws {
        let device = HostDevice()
        let tables = [TableLayout(name: "table", rowCount: 4, rowWidth: 4)]
        let store = try PlainStore(tables: tables, device: device, seed: 1)
        var memory = MemoryConfiguration()
        memory.waitTimeout = .seconds(5)
        let manager = try AccessManager(
            tables: tables, store: store, device: device, staleness: .bulkSynchronous,
            memory: memory)
        defer {
            manager.close()
            store.close()
        }
        let local = try manager.localBatch(name: "activation", byteCount: 1024)
        // Used an iteration after it was made.
        let plan = AccessPlan([
            Access(.local, batch: local.id, matters: true), Access(.endLocal, batch: local.id),
            Access(.local, batch: local.id), Access(.endLocal, batch: local.id, matters: true),
            Access(.clock),
        ])
        var problem = manager.problem(for: plan)
        let copying = try PlacementPlanner.placement(for: problem)
        problem.locals[0].mayBeLeft = true
        let leaving = try PlacementPlanner.placement(for: problem)
        let made = UnsafeMutablePointer<Float>.allocate(capacity: 256)
        defer { made.deallocate() }
        func iterate(_ value: Float) throws -> Bool {
            let found = try manager.local(local, fetch: true)
            if value > 1 { #expect(found.floats[255] == value - 1) }
            found.release(keep: false)
            made.update(repeating: value, count: 256)
            return try manager.put(local, left: UnsafeMutableRawPointer(made)) { room in
                room.copyMemory(from: made, byteCount: 1024)
            }
        }
        try manager.follow(plan, placement: leaving)
        for value in 1...3 {
            #expect(try iterate(Float(value)))
            manager.clock()
        }
        try manager.follow(plan, placement: copying)
        for value in 4...8 {
            #expect(try !iterate(Float(value)))
            manager.clock()
        }
        #expect(manager.counters.planDeviations == 0)
    }
}
