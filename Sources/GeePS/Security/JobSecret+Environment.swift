import GeePSCore
import Glibc

extension JobSecret {
    /// Variable with the secret itself: what a launcher gives the processes that it starts.
    public static let variable = "GEEPS_SECRET"
    /// Variable with the path of a file that has it: what a person sets.
    public static let fileVariable = "GEEPS_SECRET_FILE"

    /// The secret of this process: of `GEEPS_SECRET`, else the file of `GEEPS_SECRET_FILE`, else the user's own file.
    ///
    /// The user's own file is `geeps/secret` in `XDG_CONFIG_HOME` or `~/.config`. It is made where there is none, so
    /// processes of one user that share a home directory know the same secret without being told.
    ///
    /// - Parameter warn: takes a line about a file that others can read.
    /// - Throws: `LaunchError` (secret) with what is wrong and what would do.
    public static func ofEnvironment(
        warn: (String) -> Void = logToStandardError
    ) throws(LaunchError) -> JobSecret {
        if let text = environmentValue(variable) {
            return try JobSecret(Array(text.utf8), origin: variable)
        }
        if let path = environmentValue(fileVariable) {
            return try read(path, origin: "\(path) (\(fileVariable))", warn: warn)
        }
        guard let directory = userDirectory() else {
            throw LaunchError(
                .secret,
                "the processes of a job need a secret in common, and without HOME there is no file of the user's: "
                    + "set \(fileVariable) to a file that all of them can read and others cannot")
        }
        return try ofUser(in: directory)
    }

    /// What `ofEnvironment` would go by, in words; makes no file.
    public static func sourceOfEnvironment() -> String {
        if environmentValue(variable) != nil { return variable }
        if let path = environmentValue(fileVariable) { return "\(path) (\(fileVariable))" }
        guard let directory = userDirectory() else { return "nowhere: set \(fileVariable)" }
        let path = directory + "/secret"
        return access(path, F_OK) == 0 ? path : "\(path), made when it is needed"
    }

    /// The user's own secret in `directory`, made when it is not there.
    static func ofUser(in directory: String) throws(LaunchError) -> JobSecret {
        let path = directory + "/secret"
        if access(path, F_OK) != 0 { try make(path, in: directory) }
        var status = stat()
        guard stat(path, &status) == 0 else { throw unreadable(path) }
        guard status.st_uid == geteuid(), status.st_mode & 0o077 == 0 else {
            throw LaunchError(
                .secret,
                "\(path) must belong to the user who runs this and be closed to all others: chmod 600 \(path)"
            )
        }
        return try read(path, origin: path) { _ in }
    }

    /// Reads a secret, without the white space at its end.
    static func read(
        _ path: String, origin: String, warn: (String) -> Void
    ) throws(LaunchError) -> JobSecret {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw unreadable(path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(path) }
        if status.st_mode & 0o007 != 0 {
            warn("everybody on this machine can read the job secret in \(path): chmod 600 \(path)")
        }
        // One more than may be there, so that too many show.
        var bytes = [UInt8](repeating: 0, count: bytesMaximum + 1)
        var filled = 0
        while filled < bytes.count {
            let count = bytes.withUnsafeMutableBytes { target in
                Glibc.read(
                    descriptor, target.baseAddress.map { $0 + filled }, target.count - filled)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw unreadable(path) }
            if count == 0 { break }
            filled += count
        }
        var secret = bytes.prefix(filled)
        while let last = secret.last, [0x20, 0x09, 0x0a, 0x0d].contains(last) {
            secret.removeLast()
        }
        return try JobSecret(Array(secret), origin: origin)
    }

    /// Makes the file whole or not at all, so that of several processes that do so all read the same one.
    private static func make(_ path: String, in directory: String) throws(LaunchError) {
        makeDirectories(directory)
        let name = "\(path).\(getpid()).\(UInt32.random(in: .min ... .max))"
        let descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw unmade(path) }
        defer {
            close(descriptor)
            unlink(name)
        }
        let text = Array((JobSecret().variableText + "\n").utf8)
        guard write(descriptor, text, text.count) == text.count, fsync(descriptor) == 0,
            link(name, path) == 0 || errno == EEXIST
        else { throw unmade(path) }
    }

    private static func makeDirectories(_ path: String) {
        let end = path.lastIndex(of: "/") ?? path.startIndex
        let parent = String(path[..<end])
        if !parent.isEmpty && access(parent, F_OK) != 0 { makeDirectories(parent) }
        mkdir(path, 0o700)
    }

    private static func unreadable(_ path: String) -> LaunchError {
        LaunchError(.secret, "cannot read the job secret in \(path): \(systemText(errno))")
    }

    private static func unmade(_ path: String) -> LaunchError {
        LaunchError(
            .secret,
            "cannot make the job secret \(path): \(systemText(errno)); set \(fileVariable) to a file that all "
                + "processes of the job can read and others cannot")
    }

    private static func userDirectory() -> String? {
        if let directory = environmentValue("XDG_CONFIG_HOME") { return directory + "/geeps" }
        return environmentValue("HOME").map { $0 + "/.config/geeps" }
    }

    /// The value of an environment variable that is set to something.
    private static func environmentValue(_ name: String) -> String? {
        guard let text = getenv(name), text.pointee != 0 else { return nil }
        return String(cString: text)
    }
}
