import Glibc

/// A library of NVIDIA's that is found at run time: which names it has, where it may be, how to get it.
public enum CUDALibrary: String, Sendable, CaseIterable {
    /// Compiles kernels.
    case nvrtc = "NVRTC"
    /// Multiplies matrices.
    case cublas = "cuBLAS"
    /// Convolutions and other layers.
    case cudnn = "cuDNN"

    /// For messages.
    public var name: String { rawValue }

    /// File names, the newest first.
    var fileNames: [String] {
        switch self {
        case .nvrtc: ["libnvrtc.so.13", "libnvrtc.so.12"]
        case .cublas: ["libcublas.so.13", "libcublas.so.12"]
        case .cudnn: ["libcudnn.so.9"]
        }
    }

    /// What would do.
    public var expected: String { fileNames.joined(separator: " or ") }

    /// How to get it.
    public var advice: String {
        switch self {
        case .nvrtc: "pip install nvidia-cuda-nvrtc, or install the CUDA toolkit"
        case .cublas: "pip install nvidia-cublas, or install the CUDA toolkit"
        case .cudnn: "pip install nvidia-cudnn-cu13, or install cuDNN 9"
        }
    }

    /// An environment variable that names the file and ends the search: `GEEPS_CUDNN`.
    public var variable: String { "GEEPS_\(rawValue.uppercased())" }

    /// Opens it; it stays open.
    ///
    /// - Throws: `.unavailable` with what was looked for, where, and how to get it.
    public func open() throws(DeviceError) -> (handle: UnsafeMutableRawPointer, path: String) {
        if let given = Self.environment(variable) {
            if let handle = open(given) { return (handle, given) }
            throw DeviceError(
                .unavailable,
                "\(variable) is \(given), which does not open: \(Self.lastAnswer), expected \(expected)"
            )
        }
        for candidate in candidates {
            if let handle = open(candidate) { return (handle, candidate) }
        }
        throw DeviceError(
            .unavailable,
            "found no \(name): looked for \(expected) where the system loads libraries from, in the CUDA "
                + "toolkit (CUDA_HOME, /usr/local/cuda) and in Python's site-packages (VIRTUAL_ENV, python3 "
                + "on PATH); \(advice), or name the file in \(variable)")
    }

    private func open(_ path: String) -> UnsafeMutableRawPointer? {
        if self == .nvrtc, let slash = path.lastIndex(of: "/") {
            // NVRTC asks for its built-in functions by name alone.
            for builtins in Self.glob("\(path[..<slash])/libnvrtc-builtins.so*") {
                _ = dlopen(builtins, RTLD_NOW | RTLD_GLOBAL)
            }
        }
        return dlopen(path, RTLD_NOW | RTLD_LOCAL)
    }

    /// Names for the system's own search, then files that exist.
    private var candidates: [String] {
        let files = Self.directories.flatMap { directory in
            fileNames.flatMap { Self.glob("\(directory)/\($0)") }
        }
        return fileNames + files
    }

    /// Patterns of directories that may have libraries of NVIDIA's.
    private static var directories: [String] {
        var found: [String] = []
        for variable in ["CUDA_HOME", "CUDA_PATH"] {
            if let root = environment(variable) { found += ["\(root)/lib64", "\(root)/lib"] }
        }
        found += ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/*/lib"]
        return found + pythonPackages.map { "\($0)/nvidia/*/lib" }
    }

    /// Where Python keeps packages; Python itself is not run.
    private static var pythonPackages: [String] {
        var roots: [String] = []
        if let root = environment("VIRTUAL_ENV") { roots.append(root) }
        for directory in (environment("PATH") ?? "").split(separator: ":")
        where access("\(directory)/python3", X_OK) == 0 {
            roots.append("\(directory)/..")
        }
        if let home = environment("HOME") { roots.append("\(home)/.local") }
        return roots.flatMap { root in
            ["site-packages", "dist-packages"].flatMap { packages in
                ["\(root)/lib/python3*/\(packages)", "\(root)/lib64/python3*/\(packages)"]
            }
        }
    }

    private static var lastAnswer: String { dlerror().map { String(cString: $0) } ?? "no answer" }

    /// A variable of the environment; nil when it is not set, or empty.
    static func environment(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    /// Files and directories that `pattern` names.
    private static func glob(_ pattern: String) -> [String] {
        var found = glob_t()
        defer { globfree(&found) }
        guard Glibc.glob(pattern, 0, nil, &found) == 0 else { return [] }
        return (0..<Int(found.gl_pathc)).compactMap { index in
            found.gl_pathv[index].map { String(cString: $0) }
        }
    }
}
