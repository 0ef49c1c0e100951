import GeePSCore
import GeePSDevice

/// What a trainer does around layers that compute on a stream: batches go to the device, results come back.
///
/// Batches are made in pinned host memory, in turns of two, while the device is at work on what was put on the
/// stream before. Nothing waits here but for the copy of the batch before the last, and for a result.
final class StreamPort {
    let stream: any DeviceStream
    private let network: Network
    private let labelsOffset: Int
    private var slots: [Slot] = []
    private var nextSlot = 0
    private let results: HostBuffer
    private let resultBytes: Int
    // By mini-batch of a clock.
    private var arrivals: [any DeviceEvent] = []
    private let waitTimeout: Duration

    /// Pinned memory of a batch: the images, then the labels.
    private final class Slot {
        let memory: HostBuffer
        let isFree: any DeviceEvent
        init(_ memory: consuming HostBuffer, isFree: any DeviceEvent) {
            self.memory = memory
            self.isFree = isFree
        }
    }

    /// A port for `batchesPerClock` mini-batches a clock.
    ///
    /// - Throws: `DeviceError` without memory or events.
    init(
        _ network: Network, device: any Device, stream: any DeviceStream, batchesPerClock: Int,
        waitTimeout: Duration
    ) throws(DeviceError) {
        self.network = network
        self.stream = stream
        self.waitTimeout = waitTimeout
        labelsOffset = network.tensors[network.inputTensor].byteCount
        let batchBytes = labelsOffset + network.tensors[network.labelsTensor].byteCount
        resultBytes = network.resultsTensor.map { network.tensors[$0].byteCount } ?? 0
        results = try device.allocateHost(
            byteCount: resultBytes * batchesPerClock, for: .localData, preferPinned: true)
        for _ in 0..<2 {
            slots.append(
                Slot(
                    try device.allocateHost(
                        byteCount: batchBytes, for: .localData, preferPinned: true),
                    isFree: try device.makeEvent()))
        }
        for _ in 0..<batchesPerClock { arrivals.append(try device.makeEvent()) }
    }

    deinit {
        // Copies from and to the pinned memory may be under way; after a failure nobody has waited for them.
        try? stream.synchronise(deadline: .after(waitTimeout))
    }

    /// Puts a batch on its way to `images` and `labels` in device memory; `fill` writes it to the host's.
    ///
    /// - Throws: what has failed on the stream; `.deadline`.
    func load(
        images: UnsafeMutableRawPointer, labels: UnsafeMutableRawPointer,
        _ fill: (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Int32>) -> Void
    ) throws(DeviceError) {
        let slot = slots[nextSlot]
        nextSlot = (nextSlot + 1) % slots.count
        try slot.isFree.wait(deadline: .after(waitTimeout))
        let staged = slot.memory.address
        let stagedLabels = staged + labelsOffset
        fill(slot.memory.floats, stagedLabels.assumingMemoryBound(to: Int32.self))
        stream.copy(
            from: staged, to: images, byteCount: labelsOffset, direction: .hostToDevice,
            label: "batch")
        stream.copy(
            from: stagedLabels, to: labels, byteCount: slot.memory.byteCount - labelsOffset,
            direction: .hostToDevice, label: "labels")
        stream.record(slot.isFree)
    }

    /// Puts the results of mini-batch `batch` of the clock, at `address` in device memory, on their way here.
    func fetchResults(from address: UnsafeRawPointer, batch: Int) {
        stream.copy(
            from: address, to: results.address + batch * resultBytes, byteCount: resultBytes,
            direction: .deviceToHost, label: "loss")
        stream.record(arrivals[batch])
    }

    /// Waits for the results of mini-batch `batch`; what was put on the stream after them goes on meanwhile.
    ///
    /// - Throws: what has failed on the stream; `.deadline`; `.data` when a label is no class.
    func result(batch: Int) throws -> BatchResult {
        try arrivals[batch].wait(deadline: .after(waitTimeout))
        return try network.batchResult(UnsafeRawPointer(results.address + batch * resultBytes))
    }

    /// Multiplies the first `count` values of an update by `scale`, and clears those that pad its last row.
    func finish(
        _ update: UnsafeMutablePointer<Float>, count: Int, paddedCount: Int, scale: Float?
    ) {
        if let scale { stream.scale(update, by: scale, count: count, label: "scale") }
        guard paddedCount > count else { return }
        stream.zero(
            UnsafeMutableRawPointer(update + count),
            byteCount: (paddedCount - count) * MemoryLayout<Float>.stride, label: "padding")
    }
}
