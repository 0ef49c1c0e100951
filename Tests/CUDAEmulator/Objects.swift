import GeePSDevice
import Glibc

/// A GPU's primary context; guarded by the emulator's lock, as all objects here.
final class ContextObject {
    let handle: OpaquePointer
    let device: Int32
    var retainCount = 0

    init(handle: OpaquePointer, device: Int32) {
        self.handle = handle
        self.device = device
    }
}

/// A stream and what is ordered before the next thing put on it.
final class StreamObject: @unchecked Sendable {
    // Sendable: `host` is; the rest is guarded by the emulator's lock.
    let handle: OpaquePointer
    let context: OpaquePointer
    let agent: Int
    let host: any DeviceStream
    /// Whether work of the default stream and this one's wait for each other.
    let isBlocking: Bool
    var clock = VectorClock()
    /// Operations not done yet.
    var pending = 0

    init(
        handle: OpaquePointer, context: OpaquePointer, agent: Int, host: any DeviceStream,
        isBlocking: Bool
    ) {
        self.handle = handle
        self.context = context
        self.agent = agent
        self.host = host
        self.isBlocking = isBlocking
    }

    var name: String { "stream \(agent)" }
}

/// One record of an event.
final class EventRecord: @unchecked Sendable {
    // Sendable: `nanoseconds` is guarded by the emulator's lock.
    let mark: any DeviceEvent
    /// What is ordered before it.
    let clock: VectorClock
    /// When it happened.
    var nanoseconds: UInt64?

    init(mark: any DeviceEvent, clock: VectorClock) {
        self.mark = mark
        self.clock = clock
    }
}

/// An event.
final class EventObject {
    let handle: OpaquePointer
    let context: OpaquePointer
    let hasTiming: Bool
    /// The most recent record.
    var record: EventRecord?

    init(handle: OpaquePointer, context: OpaquePointer, hasTiming: Bool) {
        self.handle = handle
        self.context = context
        self.hasTiming = hasTiming
    }
}

/// A loaded image.
final class ModuleObject {
    let handle: OpaquePointer
    let context: OpaquePointer
    let kernels: Set<String>
    /// Handles of its functions, by name.
    var functions: [String: OpaquePointer] = [:]

    init(handle: OpaquePointer, context: OpaquePointer, kernels: Set<String>) {
        self.handle = handle
        self.context = context
        self.kernels = kernels
    }
}

/// A kernel of a module.
struct FunctionObject {
    let name: String
    let context: OpaquePointer
}

/// What the calling thread has in hand.
enum ThreadState {
    private static let contextKey = makeKey()
    private static let operationKey = makeKey()

    private static func makeKey() -> pthread_key_t {
        var key = pthread_key_t()
        precondition(pthread_key_create(&key, nil) == 0, "no key for thread-local state is left")
        return key
    }

    /// The current context, perhaps of an emulator that is gone; a new thread has none.
    static var context: OpaquePointer? {
        get { pthread_getspecific(contextKey).map { OpaquePointer($0) } }
        set { pthread_setspecific(contextKey, newValue.map { UnsafeRawPointer($0) }) }
    }

    /// The host function that runs on this thread.
    static var operation: Operation? {
        pthread_getspecific(operationKey).map {
            Unmanaged<Operation>.fromOpaque($0).takeUnretainedValue()
        }
    }

    /// Runs `body` as the host function `operation`.
    static func run(_ operation: Operation, _ body: () -> Void) {
        withExtendedLifetime(operation) {
            pthread_setspecific(operationKey, Unmanaged.passUnretained(operation).toOpaque())
            body()
            pthread_setspecific(operationKey, nil)
        }
    }
}
