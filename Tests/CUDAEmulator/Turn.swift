import GeePSCore
import Glibc

/// Whose turn it is to be the process's emulator.
enum Turn {
    private static let signal = Signal()
    // Guarded by `signal`.
    private nonisolated(unsafe) static var emulator: CUDAEmulator?
    private nonisolated(unsafe) static var owner = pthread_t()
    private nonisolated(unsafe) static var handleCount: UInt = 0

    /// Waits until there is none, then makes `emulator` the current one.
    static func begin(_ next: CUDAEmulator) {
        signal.lock()
        defer { signal.unlock() }
        precondition(
            emulator == nil || pthread_equal(owner, pthread_self()) == 0,
            "CUDAEmulator.run was called inside CUDAEmulator.run")
        while emulator != nil { _ = signal.wait() }
        emulator = next
        owner = pthread_self()
    }

    static func end() {
        signal.withLock {
            emulator = nil
            signal.wakeOne()
        }
    }

    static var current: CUDAEmulator? { signal.withLock { emulator } }

    /// A number in the part of the address space that no process has, so that a look at it traps.
    static func makeHandle() -> OpaquePointer {
        let number = signal.withLock {
            handleCount += 1
            return handleCount
        }
        guard let handle = OpaquePointer(bitPattern: 0xCDA0_0000_0000_0000 + number * 16) else {
            preconditionFailure("handle \(number) is null")
        }
        return handle
    }
}
