import GeePS
import Glibc

/// Where running jobs keep their status sockets.
enum StatusPlaces {
    /// In a run's directory.
    static let folder = ".status"

    /// The directory for a job that has none of its own: the user's, in /tmp, made where it is missing.
    ///
    /// - Parameter isMade: false to look only.
    /// - Returns: nil where it cannot be made, or is not only the user's.
    static func ofUser(isMade: Bool = true) -> String? {
        let path = "/tmp/geeps-\(geteuid())"
        if isMade { mkdir(path, 0o700) }
        var status = stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR,
            status.st_uid == geteuid(), status.st_mode & 0o077 == 0
        else { return nil }
        return path
    }

    /// The sockets of the job that this process supervises.
    static func ofThisJob() -> String? { ofUser().map { "\($0)/run-\(getpid())" } }

    /// Takes away what processes of this job that were killed have left.
    static func clearThisJob() {
        guard let path = ofUser(isMade: false).map({ "\($0)/run-\(getpid())" }),
            let stream = opendir(path)
        else { return }
        defer { rmdir(path) }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".sock") { unlink(path + "/" + name) }
        }
    }

    /// The directories of sockets that may be those of `run`, a run's directory.
    static func candidates(for run: String) -> [String] { [run + "/" + folder, run] }

    /// The directories of sockets of all jobs that can be found from `start`: of it and its folders, of `runs` in it and
    /// in its folders, the newest first; then those of the user's jobs without a directory.
    static func all(from start: String) -> [String] {
        var runs = [start] + folders(in: start) + folders(in: start + "/runs")
        for folder in folders(in: start) { runs += folders(in: folder + "/runs") }
        let own = ofUser(isMade: false).map { folders(in: $0) } ?? []
        return newestFirst(runs.map { $0 + "/" + folder }) + newestFirst(own)
    }

    /// The run that a directory of sockets belongs to, for people.
    static func run(of place: String) -> String {
        place.hasSuffix("/" + folder) ? String(place.dropLast(folder.count + 1)) : place
    }

    private static func newestFirst(_ places: [String]) -> [String] {
        let dated = places.compactMap { place in modified(place).map { (place, $0) } }
        return dated.sorted { ($1.1, $0.0) < ($0.1, $1.0) }.map(\.0)
    }

    private static func folders(in path: String) -> [String] {
        guard let stream = opendir(path) else { return [] }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !name.hasPrefix("."), entry.pointee.d_type == UInt8(DT_DIR) else { continue }
            found.append(path == "." ? name : path + "/" + name)
        }
        return found.sorted()
    }

    /// When a directory was changed last, in nanoseconds; nil where there is none.
    private static func modified(_ path: String) -> Int? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return nil }
        return status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
    }
}

/// What the system says of a process that does not answer.
enum SilentProcess {
    /// "it is stopped (SIGSTOP or a debugger)".
    ///
    /// - Parameter isCalled: whether somebody took the call.
    static func words(_ peer: ProcessStatus.Peer, isCalled: Bool) -> String {
        guard peer.host == hostName() else { return "it is on another machine" }
        switch state(of: peer.pid) {
        case "T", "t": return "it is stopped (SIGSTOP or a debugger)"
        case "D": return "it waits for a device"
        case "Z": return "it has ended"
        case nil: return "it has ended, or is not in this container"
        default: return isCalled ? "it is busy, or its machine is" : "it does not listen"
        }
    }

    private static func state(of pid: UInt32) -> Character? {
        guard let file = fopen("/proc/\(pid)/stat", "r") else { return nil }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = fread(&buffer, 1, buffer.count, file)
        let text = String(decoding: buffer[..<count], as: UTF8.self)
        // "pid (name) T ...", where the name may have anything in it.
        guard let end = text.lastIndex(of: ")") else { return nil }
        return text[end...].dropFirst(2).first
    }

    private static func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "" }
        return String(
            decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
