import Glibc

/// The system calls that write a checkpoint, so that a test can let any of them be the last.
public protocol FileSystem: Sendable {
    /// Makes a directory; one that is there already will do.
    func makeDirectory(_ path: String) throws(CheckpointError)
    /// Makes an empty file and opens it, in place of one that is there.
    func create(_ path: String) throws(CheckpointError) -> Int32
    /// Writes all of `bytes` at the end of an open file.
    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32, _ path: String)
        throws(CheckpointError)
    /// Waits until the contents of an open file are on disk.
    func sync(_ file: Int32, _ path: String) throws(CheckpointError)
    /// Closes a file.
    func close(_ file: Int32)
    /// Gives a file or directory another name; nothing but an empty directory or a file may have that.
    func rename(_ path: String, to target: String) throws(CheckpointError)
    /// Waits until the names in a directory are on disk.
    func syncDirectory(_ path: String) throws(CheckpointError)
    /// Removes a file.
    func removeFile(_ path: String) throws(CheckpointError)
    /// Removes an empty directory.
    func removeDirectory(_ path: String) throws(CheckpointError)
}

/// The real ones.
public struct SystemFiles: FileSystem {
    /// The system's files.
    public init() {}

    /// Makes a directory; one that is there already will do.
    public func makeDirectory(_ path: String) throws(CheckpointError) {
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else {
            throw .system("make directory \(path)")
        }
    }

    /// Makes an empty file and opens it.
    public func create(_ path: String) throws(CheckpointError) -> Int32 {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard file >= 0 else { throw .system("create \(path)") }
        return file
    }

    /// Writes all of `bytes`.
    public func write(_ bytes: UnsafeRawBufferPointer, to file: Int32, _ path: String)
        throws(CheckpointError)
    {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = Glibc.write(file, rest.baseAddress, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw .system("write \(path)") }
            done += count
        }
    }

    /// Waits until the contents are on disk.
    public func sync(_ file: Int32, _ path: String) throws(CheckpointError) {
        guard fsync(file) == 0 else { throw .system("sync \(path)") }
    }

    /// Closes a file.
    public func close(_ file: Int32) { Glibc.close(file) }

    /// Gives a file or directory another name.
    public func rename(_ path: String, to target: String) throws(CheckpointError) {
        guard Glibc.rename(path, target) == 0 else { throw .system("rename \(path) to \(target)") }
    }

    /// Waits until the names are on disk.
    public func syncDirectory(_ path: String) throws(CheckpointError) {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw .system("open \(path) to sync it") }
        defer { Glibc.close(directory) }
        guard fsync(directory) == 0 else { throw .system("sync \(path)") }
    }

    /// Removes a file; one that is not there will do.
    public func removeFile(_ path: String) throws(CheckpointError) {
        guard unlink(path) == 0 || errno == ENOENT else { throw .system("remove \(path)") }
    }

    /// Removes an empty directory; one that is not there will do.
    public func removeDirectory(_ path: String) throws(CheckpointError) {
        guard rmdir(path) == 0 || errno == ENOENT else { throw .system("remove \(path)") }
    }
}

/// The names in a directory, sorted; none where there is no directory.
func names(in directory: String) -> [String] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}
