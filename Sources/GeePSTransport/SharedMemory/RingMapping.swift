import CGeePSShims
import GeePSCore
import Glibc

/// The mapped memory file of a connection; unmapped when the last frame that points into it is gone.
final class RingMapping: Sendable {
    let layout: RingLayout
    nonisolated(unsafe) private let base: UnsafeMutableRawPointer
    // Unsafe: a constant address; what lies there is shared with another process anyway, and every access
    // goes through the atomics of `RingSide` or to bytes one side owns at the time.

    /// Maps the file `descriptor`, which stays the caller's.
    ///
    /// - Throws: `.refused` when the file is not of the layout's size or could be cut short under us.
    init(descriptor: Int32, layout: RingLayout) throws(TransportError) {
        let status = geeps_memory_file_check(descriptor, layout.fileBytes)
        guard status == 0 else {
            throw TransportError(
                .refused,
                "shared memory offered is not a sealed file of \(layout.fileBytes) bytes: "
                    + systemMessage(-status))
        }
        let address = mmap(
            nil, layout.fileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else {
            throw .system("map \(layout.fileBytes) bytes of shared memory", errno: errno)
        }
        self.layout = layout
        base = address
    }

    /// Makes a memory file whose size stays what it is.
    ///
    /// - Returns: its descriptor, the caller's to close, or the negated errno.
    static func makeFile(bytes: Int) -> Int32 { geeps_memory_file_create("geeps-ring", bytes) }

    deinit { munmap(base, layout.fileBytes) }

    /// One direction's counters and ring.
    func side(direction: Int) -> RingSide {
        RingSide(
            mapping: self,
            counters: base + layout.countersOffset(direction: direction),
            ring: base + layout.ringOffset(direction: direction))
    }
}

/// One direction of a mapping: its counters, its bytes, its two futexes.
///
/// Nothing read from the counters is trusted: each side keeps its own position and refuses a counter of
/// the other side that the protocol does not allow, before it is used.
struct RingSide: @unchecked Sendable {
    // Sendable: constant addresses, see `RingMapping`.
    let mapping: RingMapping
    let counters: UnsafeMutableRawPointer
    let ring: UnsafeMutableRawPointer

    var layout: RingLayout { mapping.layout }
    var receiverParked: UnsafeMutableRawPointer { counters + RingLayout.receiverParkedOffset }
    var senderParked: UnsafeMutableRawPointer { counters + RingLayout.senderParkedOffset }

    /// The bytes at `position`, up to the end of the ring.
    func address(_ position: UInt64) -> UnsafeMutableRawPointer {
        ring + Int(position % UInt64(layout.capacity))
    }

    /// Bytes from `position` to the end of the ring.
    func bytesToEnd(_ position: UInt64) -> Int {
        layout.capacity - Int(position % UInt64(layout.capacity))
    }

    /// Bytes published so far, as the other side says.
    ///
    /// - Parameter position: what we have read up to.
    func publishedHead(after position: UInt64, peer: String) throws(TransportError) -> UInt64 {
        let head = geeps_load_acquire_64(counters + RingLayout.headOffset)
        guard head >= position, head - position <= UInt64(layout.capacity),
            head % UInt64(RingLayout.alignment) == 0
        else {
            throw TransportError(
                .malformed,
                "shared memory of \(peer): published up to \(head), which cannot follow "
                    + "\(position) in a ring of \(layout.capacity) bytes")
        }
        return head
    }

    /// Bytes released so far, as the other side says.
    ///
    /// - Parameter last: what it said before.
    /// - Parameter head: what we have published.
    func releasedTail(
        after last: UInt64, head: UInt64, peer: String
    ) throws(TransportError) -> UInt64 {
        let tail = geeps_load_acquire_64(counters + RingLayout.tailOffset)
        guard tail >= last, tail <= head, tail % UInt64(RingLayout.alignment) == 0 else {
            throw TransportError(
                .malformed,
                "shared memory of \(peer): released up to \(tail), which cannot lie between "
                    + "\(last) and \(head)")
        }
        return tail
    }

    /// Makes everything before `head` readable and wakes the receiver if it sleeps.
    func publish(head: UInt64) {
        geeps_store_release_64(counters + RingLayout.headOffset, head)
        wake(receiverParked)
    }

    /// Makes everything before `tail` writable and wakes the sender if it sleeps.
    func publish(tail: UInt64) {
        geeps_store_release_64(counters + RingLayout.tailOffset, tail)
        wake(senderParked)
    }

    // The sleeper stores 1, fences and looks at the counter again; we store the counter, fence and look
    // at the word: one of the two sees the other (Dekker).
    private func wake(_ word: UnsafeMutableRawPointer) {
        geeps_fence()
        if geeps_load_relaxed_32(word) != 0 { Self.forceWake(word) }
    }

    /// Wakes whoever sleeps on `word`.
    static func forceWake(_ word: UnsafeMutableRawPointer) {
        geeps_store_relaxed_32(word, 0)
        geeps_futex_wake(word.assumingMemoryBound(to: UInt32.self))
    }
}
