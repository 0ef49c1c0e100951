import CGeePSShims
import GeePSCore
import Glibc

/// What the two sides say on a Unix-domain socket before the first frame.
///
/// The dialling side sends 16 bytes, with the memory file attached if it wants shared memory; the
/// listening side answers 16 bytes. Little endian: magic (32 bits), version (8), request or answer (8),
/// errno (16; answers only), ring bytes (64; requests only).
enum LocalSocket {
    static let nameBytesMaximum = 100
    static let messageBytes = 16
    private static let magic: UInt32 = 0x4C53_5047
    private static let version: UInt8 = 1

    /// What the dialling side asks for.
    enum Request: Equatable {
        case stream
        case sharedMemory(ringBytes: Int)
    }

    /// What the listening side says.
    enum Answer: UInt8 {
        case accepted = 0
        case malformed = 1
        case notPermitted = 2
        case memoryRefused = 3
    }

    static func encode(_ request: Request) -> [UInt8] {
        switch request {
        case .stream: encode(kind: 1, errno: 0, ringBytes: 0)
        case .sharedMemory(let ringBytes): encode(kind: 2, errno: 0, ringBytes: UInt64(ringBytes))
        }
    }

    static func encode(_ answer: Answer, errno number: Int32 = 0) -> [UInt8] {
        encode(kind: answer.rawValue, errno: UInt16(clamping: number), ringBytes: 0)
    }

    /// Reads a request; nil when it is none of this version.
    static func decodeRequest(_ bytes: [UInt8]) -> Request? {
        guard let (kind, _, ringBytes) = decode(bytes) else { return nil }
        switch kind {
        case 1: return .stream
        case 2: return Int(exactly: ringBytes).map { .sharedMemory(ringBytes: $0) }
        default: return nil
        }
    }

    /// Reads an answer; nil when it is none of this version.
    static func decodeAnswer(_ bytes: [UInt8]) -> (answer: Answer, errno: Int32)? {
        guard let (kind, number, _) = decode(bytes), let answer = Answer(rawValue: kind) else {
            return nil
        }
        return (answer, Int32(number))
    }

    private static func encode(kind: UInt8, errno: UInt16, ringBytes: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: messageBytes)
        bytes.withUnsafeMutableBytes { target in
            target.storeBytes(of: magic.littleEndian, toByteOffset: 0, as: UInt32.self)
            target[4] = version
            target[5] = kind
            target.storeBytes(of: errno.littleEndian, toByteOffset: 6, as: UInt16.self)
            target.storeBytes(of: ringBytes.littleEndian, toByteOffset: 8, as: UInt64.self)
        }
        return bytes
    }

    private static func decode(_ bytes: [UInt8]) -> (kind: UInt8, errno: UInt16, ringBytes: UInt64)?
    {
        guard bytes.count == messageBytes else { return nil }
        return bytes.withUnsafeBytes { source in
            let found = UInt32(
                littleEndian: source.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
            guard found == magic, source[4] == version else { return nil }
            return (
                source[5],
                UInt16(littleEndian: source.loadUnaligned(fromByteOffset: 6, as: UInt16.self)),
                UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
    }

    /// Whether the process at the other end runs as our user or as root.
    static func peerIsTrusted(_ descriptor: Int32) -> Bool {
        var user: UInt32 = 0
        guard geeps_socket_peer_user(descriptor, &user) == 0 else { return false }
        return user == geteuid() || user == 0 || geteuid() == 0
    }
}

/// A caller on the local socket who has not said yet what it wants.
struct PendingCaller {
    let descriptor: Int32
    let givenUpAt: Deadline
    private var message: [UInt8] = []
    private var passedDescriptor: Int32 = -1

    /// Takes ownership of `descriptor`.
    init(descriptor: Int32, patience: Duration) {
        self.descriptor = descriptor
        givenUpAt = .after(patience)
    }

    /// What has come of it after reading what there is.
    enum Progress {
        case incomplete
        case gone
        case complete(LocalSocket.Request?, memory: Int32)
    }

    /// Reads without waiting.
    ///
    /// A descriptor in `.complete` is the caller's to close.
    mutating func read() -> Progress {
        var buffer = [UInt8](repeating: 0, count: LocalSocket.messageBytes - message.count)
        var passed: Int32 = -1
        let count = geeps_socket_receive_descriptor(
            descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), &passed)
        if passed >= 0 {
            if passedDescriptor >= 0 { close(passedDescriptor) }
            passedDescriptor = passed
        }
        if count == -Int64(EAGAIN) || count == -Int64(EINTR) { return .incomplete }
        guard count > 0 else { return .gone }
        message += buffer[..<Int(count)]
        guard message.count == LocalSocket.messageBytes else { return .incomplete }
        defer { passedDescriptor = -1 }
        return .complete(LocalSocket.decodeRequest(message), memory: passedDescriptor)
    }

    /// Closes everything it holds.
    func drop() {
        close(descriptor)
        if passedDescriptor >= 0 { close(passedDescriptor) }
    }
}
