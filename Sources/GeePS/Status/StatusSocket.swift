internal import CGeePSShims
internal import GeePSCore
internal import Glibc

/// The place of a job's status sockets: a directory with one for each process of this machine, "0.sock" for rank 0.
///
/// Only the user of the job can connect. Paths may be longer than a socket's address takes: the directory is open,
/// and its sockets are named through /proc.
struct StatusDirectory {
    private let directory: Descriptor
    private let path: String

    /// Opens a directory that is there.
    ///
    /// - Throws: `.system`.
    init(_ path: String) throws(LaunchError) {
        let number = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else {
            throw LaunchError(.system, "status directory \(path): \(systemText(errno))")
        }
        directory = Descriptor(number)
        self.path = path
    }

    /// Opens a directory, which is made where it is missing; its parent is there.
    init(making path: String) throws(LaunchError) {
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw LaunchError(.system, "status directory \(path): \(systemText(errno))")
        }
        try self.init(path)
    }

    /// The ranks that have or had a socket, ascending.
    var ranks: [Int] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var ranks: [Int] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard name.hasSuffix(".sock"), let rank = Int(name.dropLast(5)),
                (0..<Limits.workersMaximum).contains(rank)
            else { continue }
            ranks.append(rank)
        }
        return ranks.sorted()
    }

    /// Listens as `rank`, in place of who did before.
    ///
    /// - Returns: the socket and its number in the file system, by which `remove` knows it.
    func listen(rank: Int) throws(LaunchError) -> (Descriptor, UInt64) {
        let socket = try Self.makeSocket()
        unlinkat(directory.number, name(rank), 0)
        // Before it has a name: nobody else can connect in between.
        fchmod(socket.number, 0o600)
        guard withAddress(of: rank, { bind(socket.number, $0, $1) }) == 0,
            Glibc.listen(socket.number, 16) == 0
        else {
            throw LaunchError(
                .system, "status socket \(path)/\(name(rank)): \(systemText(errno))")
        }
        return (socket, inode(rank) ?? 0)
    }

    /// Takes the socket of `rank` away unless another process has put its own there, and the directory if it is
    /// empty then.
    func remove(rank: Int, inode: UInt64) {
        if self.inode(rank) == inode { unlinkat(directory.number, name(rank), 0) }
        rmdir(path)
    }

    /// Connects to `rank`; nil where nobody listens.
    func connect(to rank: Int) -> Descriptor? {
        guard let socket = try? Self.makeSocket() else { return nil }
        let status = withAddress(of: rank) { Glibc.connect(socket.number, $0, $1) }
        return status == 0 ? socket : nil
    }

    private func name(_ rank: Int) -> String { "\(rank).sock" }

    private func inode(_ rank: Int) -> UInt64? {
        var status = stat()
        guard fstatat(directory.number, name(rank), &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            return nil
        }
        return UInt64(status.st_ino)
    }

    private static func makeSocket() throws(LaunchError) -> Descriptor {
        let kind =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
            | Int32(SOCK_CLOEXEC.rawValue)
        let number = socket(AF_UNIX, kind, 0)
        guard number >= 0 else {
            throw LaunchError(.system, "status socket: \(systemText(errno))")
        }
        return Descriptor(number)
    }

    private func withAddress(
        of rank: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) {
            $0.copyBytes(from: "/proc/self/fd/\(directory.number)/\(name(rank))".utf8)
        }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}

/// Answers who asks where this process stands, on a thread of its own.
///
/// One caller at a time, each bounded; nothing of the job waits for it.
final class StatusSocket: Sendable {
    /// A caller may take so long to ask, and so long to read.
    private static let patience = Duration.seconds(1)

    private let directory: StatusDirectory
    private let rank: Int
    private let inode: UInt64
    private let waker: WakePipe
    private let thread: DedicatedThread

    /// Listens from here on.
    ///
    /// - Parameter answer: statuses as bytes, of this process or of all; called on the socket's thread.
    /// - Throws: `.system`.
    init(
        directory path: String, rank: Int,
        answer: @escaping @Sendable (StatusMessage.Question) -> [[UInt8]]
    ) throws(LaunchError) {
        directory = try StatusDirectory(making: path)
        self.rank = rank
        waker = try WakePipe()
        let (listener, inode) = try directory.listen(rank: rank)
        self.inode = inode
        thread = DedicatedThread(name: "status") { [waker] in
            Self.run(listener, waker, answer)
        }
    }

    /// Ends the thread, at most two patiences later, and takes the socket away.
    func close() {
        waker.ring()
        thread.join()
        directory.remove(rank: rank, inode: inode)
    }

    private static func run(
        _ listener: Descriptor, _ waker: WakePipe,
        _ answer: (StatusMessage.Question) -> [[UInt8]]
    ) {
        while true {
            var items = [
                pollfd(fd: listener.number, events: Int16(POLLIN), revents: 0),
                pollfd(fd: waker.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            ControlSocket.wait(&items, count: 2, until: .after(.seconds(3600)))
            if items[1].revents != 0 { return }
            guard items[0].revents != 0 else { continue }
            let number = geeps_socket_accept(listener.number)
            guard number >= 0 else {
                // No descriptor is left, say: not again at once.
                usleep(10_000)
                continue
            }
            serve(Descriptor(number), answer)
        }
    }

    private static func serve(
        _ caller: Descriptor, _ answer: (StatusMessage.Question) -> [[UInt8]]
    ) {
        var user: UInt32 = 0
        guard geeps_socket_peer_user(caller.number, &user) == 0, user == geteuid() || user == 0,
            let byte = StatusMessage.receive(1, from: caller, until: .after(patience))?.first,
            let question = StatusMessage.Question(rawValue: byte)
        else { return }
        StatusMessage.send(
            StatusMessage.answer(answer(question)), to: caller, until: .after(patience))
    }
}

/// What is said on a status socket: a byte that asks, an answer, and the end.
enum StatusMessage {
    /// What is asked for.
    enum Question: UInt8, Sendable {
        /// Where this process stands.
        case own = 1
        /// Where all do that it can ask, which is rank 0's to know.
        case all = 2
    }

    /// A count and that many statuses, each behind its length.
    static func answer(_ statuses: [[UInt8]]) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(statuses.count))
        for status in statuses { writer.write(status) }
        return writer.bytes
    }

    /// Takes an answer apart.
    static func statuses(_ bytes: [UInt8]) throws(ByteError) -> [ProcessStatus] {
        var reader = ByteReader(bytes)
        let count = try reader.count(
            "statuses", limit: Limits.workersMaximum, elementBytes: 4)
        var statuses: [ProcessStatus] = []
        for _ in 0..<count {
            let status = try reader.block("status", limit: ProcessStatus.bytesMaximum)
            statuses.append(try ProcessStatus(decoding: status))
        }
        try reader.finish()
        return statuses
    }

    /// Sends all of `bytes` by `deadline`, or gives up.
    static func send(_ bytes: [UInt8], to peer: Descriptor, until deadline: Deadline) {
        var position = 0
        while position < bytes.count, !deadline.hasPassed {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    peer.number, $0.baseAddress.map { $0 + position }, bytes.count - position,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            if count > 0 {
                position += count
            } else if errno == EAGAIN {
                var item = pollfd(fd: peer.number, events: Int16(POLLOUT), revents: 0)
                ControlSocket.wait(&item, count: 1, until: deadline)
            } else if errno != EINTR {
                return
            }
        }
    }

    /// Reads up to `limit` bytes, until the peer ends or `deadline` passes.
    ///
    /// - Returns: nil where it was still open at the deadline, or broke.
    static func receive(
        _ limit: Int, from peer: Descriptor, until deadline: Deadline
    ) -> [UInt8]? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: min(limit, 64 << 10))
        while bytes.count < limit {
            let count = recv(
                peer.number, &buffer, min(buffer.count, limit - bytes.count),
                Int32(MSG_DONTWAIT))
            if count > 0 {
                bytes += buffer[..<count]
            } else if count == 0 {
                return bytes
            } else if errno == EAGAIN {
                guard !deadline.hasPassed else { return nil }
                var item = pollfd(fd: peer.number, events: Int16(POLLIN), revents: 0)
                ControlSocket.wait(&item, count: 1, until: deadline)
            } else if errno != EINTR {
                return nil
            }
        }
        return bytes
    }
}
