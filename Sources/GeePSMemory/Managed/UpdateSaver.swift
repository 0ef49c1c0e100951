internal import GeePSCore
internal import GeePSDevice

/// Takes updates from device memory to the update log on the host.
///
/// One thread uses it.
final class UpdateSaver: @unchecked Sendable {
    // Sendable: one thread uses it; the stream orders what happens in the staging memory.
    private let stream: any DeviceStream
    private let device: any Device
    private let prefersPinned: Bool
    private var staging: SharedBuffer?

    init(stream: any DeviceStream, device: any Device, prefersPinned: Bool) {
        self.stream = stream
        self.device = device
        self.prefersPinned = prefersPinned
    }

    /// Makes room for updates of `byteCount` bytes that are added to a log.
    func reserve(byteCount: Int) throws(AccessError) {
        if let staging, staging.byteCount >= byteCount { return }
        // What is under way may still use the memory.
        try? stream.synchronise()
        staging = nil
        do {
            staging = SharedBuffer(
                try device.allocateHost(
                    byteCount: byteCount, for: .updateLog, preferPinned: prefersPinned))
        } catch {
            throw AccessError(
                .outOfMemory, "staging of updates, \(byteCount) bytes: \(error.message)")
        }
    }

    /// Copies an update that is all there is of its tick into `log`.
    func save(
        _ batch: RowBatch, from source: UnsafeMutableRawPointer,
        over log: UnsafeMutablePointer<Float>, label: String
    ) {
        stream.copy(
            from: source, to: log, byteCount: batch.byteCount, direction: .deviceToHost,
            label: label)
    }

    /// Copies an update to the host and adds it to `log`; the stream goes on when it is added.
    func add(
        _ batch: RowBatch, from source: UnsafeMutableRawPointer,
        to log: UnsafeMutablePointer<Float>, label: String
    ) throws(AccessError) {
        try reserve(byteCount: batch.byteCount)
        guard let staging else { return }
        let staged = HostAddress(staging.floats)
        let target = HostAddress(log)
        stream.copy(
            from: source, to: staged.floats, byteCount: batch.byteCount, direction: .deviceToHost,
            label: label)
        stream.run(label: label) {
            switch batch.selection {
            case .run(let rows):
                Kernels.add(
                    UnsafePointer(staged.floats),
                    to: target.floats + rows.lowerBound * batch.rowWidth,
                    count: batch.valueCount)
            case .list(let index):
                Kernels.scatterAddRows(
                    UnsafePointer(staged.floats), to: target.floats, at: index.hostEntries,
                    rowCount: batch.rowCount, rowWidth: batch.rowWidth)
            }
        }
    }
}

/// An address that a closure carries to a stream.
struct HostAddress: @unchecked Sendable {
    // Sendable: a value; the stream is the only one to use the memory meanwhile.
    let floats: UnsafeMutablePointer<Float>
    init(_ floats: UnsafeMutablePointer<Float>) { self.floats = floats }
}
