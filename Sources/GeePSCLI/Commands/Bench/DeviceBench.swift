import ArgumentParser
import GeePSCore
import GeePSDevice

/// `geeps bench device`.
struct DeviceBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "device",
        abstract: "Measures a device: rows by index, copies, and what an operation costs to start.",
        discussion: """
            Rows are gathered and added at random places; beside them a copy inside the device of the same bytes, \
            which is what they can reach. Copies over the link are of pinned and pageable memory, each way and both \
            ways at once. Speeds count the bytes read; medians of several runs.

            EXAMPLES
              geeps bench device
              geeps bench device --device cuda --json | jq .gather_ratio_128
              geeps bench device --device cuda:1 --bytes 268435456
            """)

    @Option(help: ArgumentHelp("The device: host, auto, cuda or cuda:N.", valueName: "device"))
    var device = "host"

    @Option(help: "Bytes of an array.")
    var bytes = 64 << 20

    @Option(help: "Runs; the median counts.")
    var runs = 11

    @Flag(help: "Prints one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard 1 << 16...1 << 32 ~= bytes else {
            throw ValidationError("--bytes is \(bytes), expected 65536 to 4294967296")
        }
        guard 1...10_000 ~= runs else {
            throw ValidationError("--runs is \(runs), expected an integer from 1 to 10000")
        }
    }

    func run() throws {
        let bench = try BenchDevice(DeviceChoice(parsing: device), source: .system)
        let results = try DeviceMeasurement(bench.device, byteCount: bytes, runs: runs).run()
        if json {
            var members: [JSONValue.Member] = [
                .init(key: "schema", value: .string("geeps.bench.device/1")),
                .init(key: "device", value: .string(bench.name)),
                .init(key: "bytes", value: .integer(Int64(bytes))),
            ]
            members += results.map { .init(key: $0.key, value: .number($0.value)) }
            return writeOutput(JSONValue.object(members).text + "\n")
        }
        var rows = [[bench.name, "", ""]]
        for result in results {
            rows.append([result.name, Text.significant(result.value, 3), result.unit.rawValue])
        }
        writeOutput(Columns.lines(rows, right: [1]).joined(separator: "\n") + "\n")
    }
}

/// A device's speeds and delays.
struct DeviceMeasurement {
    enum Unit: String { case gigabytes = "GB/s", microseconds = "µs", ratio = "of a copy" }

    struct Result {
        var key: String
        var name: String
        var value: Double
        var unit: Unit
    }

    private let device: any Device
    private let byteCount: Int
    private let runs: Int
    private let stream: any DeviceStream
    private let other: any DeviceStream
    private let host: SharedBuffer
    private let pageable: SharedBuffer
    private let arrays: SharedBuffer
    private let indexes: SharedBuffer

    init(_ device: any Device, byteCount: Int, runs: Int) throws(DeviceError) {
        self.device = device
        self.byteCount = byteCount / 8192 * 8192
        self.runs = runs
        stream = try device.makeStream(name: "one")
        other = try device.makeStream(name: "two")
        host = SharedBuffer(
            try device.allocateHost(
                byteCount: 2 * byteCount, for: .localData, preferPinned: true))
        pageable = SharedBuffer(
            try device.allocateHost(
                byteCount: byteCount, for: .localData, preferPinned: false))
        arrays = SharedBuffer(try device.allocate(byteCount: 2 * byteCount, for: .localData))
        indexes = SharedBuffer(
            try device.allocate(byteCount: max(4, byteCount / 32), for: .indexes))
    }

    func run() throws(DeviceError) -> [Result] {
        var results: [Result] = []
        let copy = try gigabytes { copyInside() }
        results.append(
            Result(key: "copy_gb_s", name: "copy inside the device", value: copy, unit: .gigabytes))
        for width in Self.widths {
            results += try rowResults(width: width, copy: copy)
        }
        results += try linkResults()
        results += try delays()
        stream.close()
        other.close()
        return results
    }

    // MARK: Speeds

    /// Values in a row.
    private static let widths = [32, 128, 512]

    private func rowResults(width: Int, copy: Double) throws(DeviceError) -> [Result] {
        let count = byteCount / (width * 4)
        try shuffle(count)
        let gather = try gigabytes { rows(width, count, adds: false) }
        let scatter = try gigabytes { rows(width, count, adds: true) }
        return [
            Result(
                key: "gather_gb_s_\(width)", name: "rows of \(width) gathered", value: gather,
                unit: .gigabytes),
            Result(
                key: "gather_ratio_\(width)", name: "", value: gather / copy, unit: .ratio),
            Result(
                key: "scatter_add_gb_s_\(width)", name: "rows of \(width) added", value: scatter,
                unit: .gigabytes),
            Result(
                key: "scatter_add_ratio_\(width)", name: "", value: scatter / copy, unit: .ratio),
        ]
    }

    private func copyInside() {
        stream.copy(
            from: arrays.address, to: arrays.address + byteCount, byteCount: byteCount,
            direction: .deviceToDevice)
    }

    private func rows(_ width: Int, _ count: Int, adds: Bool) {
        let source = UnsafePointer(arrays.floats)
        let target = arrays.floats + byteCount / 4
        let index = UnsafePointer(indexes.address.assumingMemoryBound(to: UInt32.self))
        if adds {
            stream.scatterAddRows(
                source, indexes: index, count: count, rowWidth: width, into: target, label: "")
        } else {
            stream.gatherRows(
                source, indexes: index, count: count, rowWidth: width, into: target, label: "")
        }
    }

    /// Every row once, in an order without locality.
    private func shuffle(_ count: Int) throws(DeviceError) {
        var order = (0..<UInt32(count)).map { $0 }
        var state: UInt64 = 1
        for i in stride(from: count - 1, to: 0, by: -1) {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            order.swapAt(i, Int((state >> 33) % UInt64(i + 1)))
        }
        order.withUnsafeBytes { bytes in
            guard let source = bytes.baseAddress else { return }
            device.write(source, to: indexes.address, byteCount: bytes.count)
        }
    }

    private func linkResults() throws(DeviceError) -> [Result] {
        let (pinned, plain, memory) = (host.address, pageable.address, arrays.address)
        let bytes = byteCount
        let copyIn = { (stream: any DeviceStream, source: UnsafeMutableRawPointer) in
            stream.copy(from: source, to: memory, byteCount: bytes, direction: .hostToDevice)
        }
        let copyOut = { (stream: any DeviceStream, target: UnsafeMutableRawPointer) in
            stream.copy(
                from: memory + bytes, to: target, byteCount: bytes, direction: .deviceToHost)
        }
        let pinnedIn = try gigabytes { copyIn(stream, pinned) }
        let pinnedOut = try gigabytes { copyOut(stream, pinned + bytes) }
        let both = try gigabytes {
            copyIn(stream, pinned)
            copyOut(other, pinned + bytes)
        }
        let pageableIn = try gigabytes { copyIn(stream, plain) }
        let pageableOut = try gigabytes { copyOut(stream, plain) }
        return [
            Result(
                key: "pinned_in_gb_s", name: "pinned, to the device", value: pinnedIn,
                unit: .gigabytes),
            Result(
                key: "pinned_out_gb_s", name: "pinned, to the host", value: pinnedOut,
                unit: .gigabytes),
            Result(
                key: "pinned_both_gb_s", name: "both ways at once, sum", value: 2 * both,
                unit: .gigabytes),
            Result(
                key: "pageable_in_gb_s", name: "pageable, to the device", value: pageableIn,
                unit: .gigabytes),
            Result(
                key: "pageable_out_gb_s", name: "pageable, to the host", value: pageableOut,
                unit: .gigabytes),
        ]
    }

    /// `byteCount` over the median time of `work`.
    private func gigabytes(_ work: () -> Void) throws(DeviceError) -> Double {
        Double(byteCount) / (try microseconds(1, work) * 1000)
    }

    /// The median time of `work` and of waiting for it, divided by `parts`.
    private func microseconds(_ parts: Int, _ work: () -> Void) throws(DeviceError) -> Double {
        var samples: [Double] = []
        // The first does not count: caches, kernels, clocks that rise.
        for run in 0...runs {
            let start = monotonicNanoseconds()
            work()
            try stream.synchronise(deadline: .after(.seconds(60)))
            try other.synchronise(deadline: .after(.seconds(60)))
            if run > 0 { samples.append(Double(monotonicNanoseconds() - start) / 1000) }
        }
        return samples.sorted()[samples.count / 2] / Double(parts)
    }

    // MARK: Delays

    private func delays() throws(DeviceError) -> [Result] {
        let event = try device.makeEvent()
        let many = 500
        let launch = try microseconds(many) {
            for _ in 0..<many {
                stream.scale(arrays.floats, by: 1, count: 32, label: "")
            }
        }
        let handOver = try microseconds(many) {
            for _ in 0..<many / 2 {
                stream.record(event)
                other.wait(for: event)
                other.record(event)
                stream.wait(for: event)
            }
        }
        let function = try microseconds(many) {
            for _ in 0..<many { stream.run {} }
        }
        let wait = try microseconds(1) {}
        return [
            Result(
                key: "launch_us", name: "a small kernel, of many", value: launch,
                unit: .microseconds),
            Result(
                key: "event_us", name: "an event between two streams", value: handOver,
                unit: .microseconds),
            Result(
                key: "host_function_us", name: "a function of the host", value: function,
                unit: .microseconds),
            Result(
                key: "synchronise_us", name: "waiting for idle streams", value: wait,
                unit: .microseconds),
        ]
    }
}
