import GeePSCore
import Glibc

/// Reused buffers for received payloads: aligned, in sizes of powers of two, lent until their frame is
/// dropped.
///
/// Lending never waits: how much is lent is bounded by how many frames the receiver holds. What is
/// returned is kept up to `keptBytesMaximum`, the rest goes back to the system.
final class BufferPool: FrameOwner, @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private struct Slot {
        var memory: UnsafeMutableRawPointer?
        var sizeClass: Int
    }

    /// A lent buffer; `token` returns it.
    struct Loan {
        var bytes: UnsafeMutableRawBufferPointer
        var token: Int
    }

    /// Sizes run from a page to the largest payload.
    private static let smallestShift = 12
    private static let alignment = 64

    private let signal = Signal()
    private let keptBytesMaximum: Int
    private var slots: [Slot] = []
    private var vacantSlots: [Int] = []
    private var keptByClass: [[Int]] = Array(
        repeating: [], count: sizeClass(of: Limits.framePayloadBytesMaximum) + 1)
    private var keptBytes = 0

    /// An empty pool.
    init(keptBytesMaximum: Int = 16 << 20) { self.keptBytesMaximum = keptBytesMaximum }

    deinit {
        for slot in slots { free(slot.memory) }
    }

    /// Lends `count` bytes; their contents are left from earlier use.
    func take(_ count: Int) -> Loan {
        let sizeClass = Self.sizeClass(of: count)
        return signal.withLock {
            let token = keptByClass[sizeClass].popLast() ?? makeSlot(sizeClass)
            if slots[token].memory == nil {
                slots[token] = Slot(memory: Self.allocate(sizeClass), sizeClass: sizeClass)
            } else {
                keptBytes -= Self.bytes(of: sizeClass)
            }
            return Loan(
                bytes: UnsafeMutableRawBufferPointer(start: slots[token].memory, count: count),
                token: token)
        }
    }

    func release(token: Int) {
        signal.withLock {
            let size = Self.bytes(of: slots[token].sizeClass)
            if keptBytes + size <= keptBytesMaximum {
                keptBytes += size
                keptByClass[slots[token].sizeClass].append(token)
            } else {
                free(slots[token].memory)
                slots[token].memory = nil
                vacantSlots.append(token)
            }
        }
    }

    /// Bytes kept for reuse.
    var keptByteCount: Int { signal.withLock { keptBytes } }

    /// Buffers that were ever there at once.
    var bufferCount: Int { signal.withLock { slots.count } }

    private func makeSlot(_ sizeClass: Int) -> Int {
        if let vacant = vacantSlots.popLast() { return vacant }
        slots.append(Slot(memory: nil, sizeClass: sizeClass))
        return slots.count - 1
    }

    private static func bytes(of sizeClass: Int) -> Int { 1 << (sizeClass + smallestShift) }

    private static func sizeClass(of count: Int) -> Int {
        let bits = Int.bitWidth - max(0, count - 1).leadingZeroBitCount
        return max(0, bits - smallestShift)
    }

    private static func allocate(_ sizeClass: Int) -> UnsafeMutableRawPointer {
        let size = bytes(of: sizeClass)
        guard let memory = aligned_alloc(alignment, size) else {
            preconditionFailure("out of memory for a receive buffer of \(size) bytes")
        }
        return memory
    }
}
