import GeePSCore
import GeePSDevice
import Synchronization

extension SelfTest {
    /// Copies, kernels, order and failures of the device itself.
    static let deviceCases: [Case] = [
        Case(suite: "device", name: "copies come back as they went, pinned or not", run: copies),
        Case(
            suite: "device", name: "fresh memory is zero, fill and clear set every value",
            run: fills),
        Case(suite: "device", name: "rows are gathered by index", run: gathers),
        Case(suite: "device", name: "rows are added by index, repeated ones too", run: scatters),
        Case(suite: "device", name: "add and scale are the host's, bit by bit", run: arithmetic),
        Case(
            suite: "device", name: "kernels on the caller's thread are done when they return",
            run: synchronous),
        Case(suite: "device", name: "an event holds one stream until another is there", run: order),
        Case(suite: "device", name: "a failure on a stream is thrown to who waits", run: failures),
        Case(suite: "device", name: "too much memory is an error that says so", run: tooMuch),
    ]

    private static func copies(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "copies")
        defer { stream.close() }
        for isPinned in [true, false] {
            let values = SelfTestBench.values(100_003)
            let host = try bench.device.allocateHost(
                byteCount: values.count * 4, for: .localData, preferPinned: isPinned)
            for (index, value) in values.enumerated() { host.floats[index] = value }
            let target = try DeviceArray(
                [Float](repeating: 0, count: values.count), on: bench.device)
            let other = try DeviceArray(
                [Float](repeating: 0, count: values.count), on: bench.device)
            stream.copy(
                from: host.address, to: target.memory.address, byteCount: values.count * 4,
                direction: .hostToDevice)
            stream.copy(
                from: target.memory.address, to: other.memory.address, byteCount: values.count * 4,
                direction: .deviceToDevice)
            try SelfTestFailure.require(
                try other.read(on: stream), equals: values, isPinned ? "pinned" : "pageable")
        }
    }

    private static func fills(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "fills")
        defer { stream.close() }
        let count = 4097
        let fresh = SharedBuffer(try bench.device.allocate(byteCount: count * 4, for: .localData))
        let array = try DeviceArray(SelfTestBench.values(count), on: bench.device)
        stream.copy(
            from: fresh.address, to: array.memory.address, byteCount: count * 4,
            direction: .deviceToDevice)
        try SelfTestFailure.require(
            try array.read(on: stream), equals: [Float](repeating: 0, count: count), "fresh memory")
        stream.fill(array.floats, with: -1.5, count: count, label: "")
        stream.zero(array.memory.address + 4, byteCount: 8)
        var expected = [Float](repeating: -1.5, count: count)
        expected[1] = 0
        expected[2] = 0
        try SelfTestFailure.require(try array.read(on: stream), equals: expected, "filled memory")
    }

    /// Rows of several widths, some of which do not divide into vectors.
    private static let rowShapes: [(rows: Int, width: Int)] = [
        (1000, 128), (517, 3), (64, 1024), (3, 1),
    ]

    private static func indexes(_ count: Int, below rows: Int, on device: any Device) throws -> (
        values: [UInt32], memory: SharedBuffer
    ) {
        let values = (0..<count).map { place in UInt32((place * 7 + place / 3) % rows) }
        let memory = SharedBuffer(try device.allocate(byteCount: count * 4, for: .indexes))
        values.withUnsafeBytes { bytes in
            guard let source = bytes.baseAddress else { return }
            device.write(source, to: memory.address, byteCount: bytes.count)
        }
        return (values, memory)
    }

    private static func gathers(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "gather")
        defer { stream.close() }
        for shape in rowShapes {
            let source = SelfTestBench.values(shape.rows * shape.width)
            let index = try indexes(shape.rows, below: shape.rows, on: bench.device)
            let from = try DeviceArray(source, on: bench.device)
            let into = try DeviceArray([Float](repeating: 0, count: source.count), on: bench.device)
            stream.gatherRows(
                UnsafePointer(from.floats),
                indexes: UnsafePointer(index.memory.address.assumingMemoryBound(to: UInt32.self)),
                count: shape.rows, rowWidth: shape.width, into: into.floats, label: "")
            let expected = index.values.flatMap { row in
                source[Int(row) * shape.width..<(Int(row) + 1) * shape.width]
            }
            try SelfTestFailure.require(
                try into.read(on: stream), equals: expected, "rows of \(shape.width)")
        }
    }

    private static func scatters(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "scatter")
        defer { stream.close() }
        for shape in rowShapes {
            // Whole numbers: their sums are the same in any order.
            let source = (0..<shape.rows * shape.width).map { Float($0 % 17 - 8) }
            let index = try indexes(shape.rows, below: max(1, shape.rows / 2), on: bench.device)
            let from = try DeviceArray(source, on: bench.device)
            let into = try DeviceArray([Float](repeating: 1, count: source.count), on: bench.device)
            stream.scatterAddRows(
                UnsafePointer(from.floats),
                indexes: UnsafePointer(index.memory.address.assumingMemoryBound(to: UInt32.self)),
                count: shape.rows, rowWidth: shape.width, into: into.floats, label: "")
            var expected = [Float](repeating: 1, count: source.count)
            for (position, row) in index.values.enumerated() {
                for lane in 0..<shape.width {
                    expected[Int(row) * shape.width + lane] += source[position * shape.width + lane]
                }
            }
            try SelfTestFailure.require(
                try into.read(on: stream), equals: expected, "rows of \(shape.width)")
        }
    }

    private static func arithmetic(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "arithmetic")
        defer { stream.close() }
        let (a, b) = (SelfTestBench.values(70_001), SelfTestBench.values(70_001, seed: 2))
        let target = try DeviceArray(a, on: bench.device)
        let source = try DeviceArray(b, on: bench.device)
        stream.add(UnsafePointer(source.floats), count: a.count, into: target.floats, label: "")
        stream.scale(target.floats, by: 0.3, count: a.count, label: "")
        try SelfTestFailure.require(
            try target.read(on: stream), equals: zip(a, b).map { ($0 + $1) * 0.3 }, "(a + b) 0.3")
    }

    private static func synchronous(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "synchronous")
        defer { stream.close() }
        let values = SelfTestBench.values(5000)
        let target = try DeviceArray(values, on: bench.device)
        let source = try DeviceArray(values, on: bench.device)
        bench.device.add(UnsafePointer(source.floats), count: values.count, into: target.floats)
        bench.device.copy(UnsafePointer(target.floats), count: values.count, into: source.floats)
        bench.device.zero(target.floats, count: values.count)
        try SelfTestFailure.require(
            try source.read(on: stream), equals: values.map { $0 + $0 }, "sum")
        try SelfTestFailure.require(
            try target.read(on: stream), equals: values.map { _ in 0 }, "cleared")
    }

    private static func order(_ bench: SelfTestBench) throws {
        let slow = try bench.device.makeStream(name: "slow")
        let fast = try bench.device.makeStream(name: "fast")
        defer {
            slow.close()
            fast.close()
        }
        let event = try bench.device.makeEvent()
        let array = try DeviceArray([Float](repeating: 0, count: 1000), on: bench.device)
        for round in 1...20 {
            slow.compute(nanoseconds: 2_000_000)
            slow.fill(array.floats, with: Float(round), count: 1000, label: "")
            slow.record(event)
            fast.wait(for: event)
            let found = try array.read(on: fast)
            try SelfTestFailure.require(
                found, equals: [Float](repeating: Float(round), count: 1000), "round \(round)")
        }
    }

    private static func failures(_ bench: SelfTestBench) throws {
        let stream = try bench.device.makeStream(name: "failing")
        defer { stream.close() }
        stream.run { () throws(DeviceError) in throw DeviceError(.failed, "as asked") }
        do {
            try stream.synchronise(deadline: .after(.seconds(60)))
        } catch {
            guard error.message.contains("as asked") else {
                throw SelfTestFailure("found the failure '\(error.message)', expected 'as asked'")
            }
            return
        }
        throw SelfTestFailure("found no failure, expected the one that was put on the stream")
    }

    private static func tooMuch(_ bench: SelfTestBench) throws {
        let small = try bench.device(limitBytes: 1 << 20)
        do {
            let buffer = try small.allocate(byteCount: 64 << 20, for: .localData)
            throw SelfTestFailure("found \(buffer.byteCount) bytes in a device of 1 MiB")
        } catch let error as DeviceError {
            guard error.code == .outOfMemory else { throw error }
        }
    }
}
