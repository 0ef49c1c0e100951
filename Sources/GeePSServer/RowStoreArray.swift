import CGeePSKernels
import Glibc

/// Why a row store could not be made.
public struct RowStoreError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was asked for, what the system answered, what would do.
    public let message: String

    /// An error that reads `message`.
    public init(message: String) { self.message = message }

    /// The message.
    public var description: String { message }
}

/// One long array of floats, page aligned, in huge pages where the system gives them, freed at the end.
final class RowStoreArray {
    /// First value; 64-byte aligned.
    let start: UnsafeMutablePointer<Float>
    /// Values.
    let count: Int
    private let byteCount: Int

    /// An array whose every page is in memory when this returns: the first tick takes no page faults.
    init(count: Int, initialValue: Float, purpose: String) throws(RowStoreError) {
        self.count = count
        byteCount = max(1, count) * MemoryLayout<Float>.stride
        let address = mmap(
            nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != MAP_FAILED else {
            let reason = String(cString: strerror(errno))
            throw RowStoreError(
                message: "allocate \(byteCount) bytes for \(purpose) of a keeper: \(reason); "
                    + "more keepers would make each one's share smaller")
        }
        // A hint only: small pages work too.
        _ = madvise(address, byteCount, MADV_HUGEPAGE)
        start = address.bindMemory(to: Float.self, capacity: max(1, count))
        geeps_kernels_best().pointee.fill(start, initialValue, Int64(count))
    }

    deinit { munmap(start, byteCount) }
}
