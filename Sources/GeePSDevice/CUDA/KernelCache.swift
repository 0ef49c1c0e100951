import Glibc

/// Machine code of our kernels on disk, so that a program compiles them once for each kind of GPU.
///
/// A file is the machine code and eight bytes of a hash over it. What cannot be read, or is not whole, is as if it
/// were not there; what cannot be written costs the next start its time.
public struct KernelCache: Sendable {
    /// Looked into in this order.
    public let directories: [String]
    /// Written to; nil: nowhere.
    public let home: String?

    /// A cache in these directories.
    public init(directories: [String], home: String?) {
        self.directories = directories
        self.home = home
    }

    /// `../share/geeps/kernels` beside the program, which a bundle brings, then `GEEPS_CACHE_DIR`, or
    /// `$XDG_CACHE_HOME/geeps`, or `~/.cache/geeps`.
    public static var standard: KernelCache {
        var home = CUDALibrary.environment("GEEPS_CACHE_DIR")
        if home == nil { home = CUDALibrary.environment("XDG_CACHE_HOME").map { "\($0)/geeps" } }
        if home == nil { home = CUDALibrary.environment("HOME").map { "\($0)/.cache/geeps" } }
        let bundled = programDirectory.map { "\($0)/../share/geeps/kernels" }
        return KernelCache(
            directories: [bundled, home].compactMap { $0 }, home: home)
    }

    /// The file for `source` compiled for `architecture`: its name changes with the text and the options.
    public static func fileName(source: String, architecture: String) -> String {
        let text = source + CUDACompiler.options.joined(separator: " ")
        let hash = String(hash(of: Array(text.utf8)), radix: 16)
        return
            "geeps-\(String(repeating: "0", count: 16 - hash.count))\(hash)-\(architecture).cubin"
    }

    /// The machine code in file `name`; nil when no directory has it whole.
    func read(_ name: String) -> [UInt8]? {
        for directory in directories {
            guard let bytes = Self.bytes(of: "\(directory)/\(name)"), bytes.count > 8 else {
                continue
            }
            let image = Array(bytes.dropLast(8))
            if Array(bytes.suffix(8)) == Self.trailer(of: image) { return image }
        }
        return nil
    }

    /// Keeps `image` under `name`: written aside, then renamed, so that nobody reads half of it.
    ///
    /// - Returns: whether it is there now.
    @discardableResult func write(_ image: [UInt8], as name: String) -> Bool {
        guard let home else { return false }
        return Self.write(image, to: "\(home)/\(name)", directory: home)
    }

    /// The same for a file of a bundle.
    @discardableResult public static func write(
        _ image: [UInt8], to path: String, directory: String
    ) -> Bool {
        makeDirectories(directory)
        let aside = "\(path).\(getpid())"
        guard let file = fopen(aside, "wb") else { return false }
        let bytes = image + trailer(of: image)
        let isWritten = fwrite(bytes, 1, bytes.count, file) == bytes.count
        guard fclose(file) == 0, isWritten, rename(aside, path) == 0 else {
            unlink(aside)
            return false
        }
        return true
    }

    private static func makeDirectories(_ path: String) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/\(part)"
            mkdir(made, 0o755)
        }
    }

    private static func bytes(of path: String) -> [UInt8]? {
        guard let file = fopen(path, "rb") else { return nil }
        defer { fclose(file) }
        guard fseek(file, 0, SEEK_END) == 0 else { return nil }
        let size = ftell(file)
        // Our kernels are some hundred kilobytes.
        guard size > 0, size < 64 << 20, fseek(file, 0, SEEK_SET) == 0 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        return fread(&bytes, 1, size, file) == size ? bytes : nil
    }

    private static func trailer(of image: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: hash(of: image).littleEndian) { Array($0) }
    }

    /// FNV-1a.
    private static func hash(of bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    private static var programDirectory: String? {
        var path = [CChar](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &path, path.count - 1)
        guard length > 0 else { return nil }
        let text = String(
            decoding: path.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.lastIndex(of: "/").map { String(text[..<$0]) }
    }
}
