import Glibc

/// The directory a job file lies in: where the relative paths in it start.
struct JobDirectory: Hashable, Sendable {
    /// Absolute, without symbolic links, so that ".." means what it says.
    let path: String

    /// `path` must be absolute.
    init(path: String) { self.path = path }

    /// The directory of `file`; nil when there is no such directory.
    init?(ofFile file: String) {
        let end = file.lastIndex(of: "/")
        let directory = end.map { $0 == file.startIndex ? "/" : String(file[..<$0]) } ?? "."
        guard let resolved = realpath(directory, nil) else { return nil }
        defer { free(resolved) }
        path = String(cString: resolved)
    }

    /// The absolute path of `text`.
    ///
    /// Leading "." and ".." are worked off here, later ones are the system's: they may follow a
    /// symbolic link.
    func resolve(_ text: String) -> String {
        if text.hasPrefix("/") { return text }
        var base = path == "/" ? "" : path
        var parts = text.split(separator: "/")[...]
        while let part = parts.first, part == "." || part == ".." {
            if part == ".." { base = base.lastIndex(of: "/").map { String(base[..<$0]) } ?? "" }
            parts.removeFirst()
        }
        if parts.isEmpty { return base.isEmpty ? "/" : base }
        return base + "/" + parts.joined(separator: "/")
    }

    /// Whether something is at `path`.
    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
