import GeePSCore
import GeePSDevice
import Glibc
import Synchronization
import Testing

/// Holds closures on streams until it is opened.
final class Gate: @unchecked Sendable {
    // Sendable: `isOpen` is guarded by `signal`.
    private let signal = Signal()
    private var isOpen = false

    func open() {
        signal.withLock {
            isOpen = true
            signal.wakeAll()
        }
    }

    func pass() {
        signal.lock()
        defer { signal.unlock() }
        while !isOpen { _ = signal.wait() }
    }
}

/// Numbers that closures on streams leave behind, in order.
final class Notes: Sendable {
    private let numbers = Mutex<[Int]>([])

    func add(_ number: Int) { numbers.withLock { $0.append(number) } }
    var all: [Int] { numbers.withLock { $0 } }
}

/// A wait that only a hang uses up.
var patience: Deadline { .after(.seconds(60)) }

/// Threads of this process whose name starts with `prefix`.
func threadCount(named prefix: String) -> Int {
    guard let folder = opendir("/proc/self/task") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
        let id = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard let file = fopen("/proc/self/task/\(id)/comm", "r") else { continue }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 64)
        guard fgets(&line, 64, file) != nil else { continue }
        if line.withUnsafeBufferPointer({ String(cString: $0.baseAddress!) }).hasPrefix(prefix) {
            count += 1
        }
    }
    return count
}

/// Waits until `condition` holds; a minute at most.
func waits(until condition: () -> Bool) -> Bool {
    let deadline = patience
    while !condition() {
        guard !deadline.hasPassed else { return false }
        usleep(1000)
    }
    return true
}
