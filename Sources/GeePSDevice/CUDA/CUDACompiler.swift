internal import CGeePSKernels
public import CGeePSShims

/// NVRTC: compiles kernels for a GPU, on any machine.
public struct CUDACompiler: @unchecked Sendable {
    // Sendable: a table of C functions that any thread may call.
    private let functions: geeps_cuda_nvrtc
    /// Where it was found.
    public let path: String

    /// What kernels are compiled with: sums of products keep their roundings, so that results are the host's.
    static let options = ["--std=c++17", "--fmad=false"]

    /// A compiler of these functions.
    public init(functions: geeps_cuda_nvrtc, path: String = "given") {
        self.functions = functions
        self.path = path
    }

    /// Opens NVRTC as this machine has it.
    ///
    /// - Throws: `.unavailable` with where it was looked for and how to get it.
    public static func load() throws(DeviceError) -> CUDACompiler {
        let library = CUDALibrary.nvrtc
        let found = try library.open()
        var functions = geeps_cuda_nvrtc()
        if let missing = geeps_cuda_nvrtc_load(&functions, found.handle) {
            throw DeviceError(
                .unavailable,
                "found NVRTC (\(found.path)) without \(String(cString: missing)), expected "
                    + "\(library.expected); \(library.advice)")
        }
        return CUDACompiler(functions: functions, path: found.path)
    }

    /// "13.0".
    public var version: String {
        var (major, minor): (Int32, Int32) = (0, 0)
        return functions.nvrtcVersion(&major, &minor) == 0 ? "\(major).\(minor)" : "unknown"
    }

    /// Our kernels, as text.
    public static var source: String { String(cString: geeps_cuda_source()) }

    /// Machine code of `source` for an architecture such as `sm_90`.
    ///
    /// - Throws: `.failed` with what the compiler said; `.unavailable` when it does not know the architecture.
    public func compile(
        source: String = CUDACompiler.source, architecture: String
    ) throws(DeviceError) -> [UInt8] {
        var program: geeps_nvrtc_program?
        try check(
            functions.nvrtcCreateProgram(&program, source, "geeps.cu", 0, nil, nil),
            "take a program")
        defer { _ = functions.nvrtcDestroyProgram(&program) }
        let options = Self.options + ["--gpu-architecture=\(architecture)"]
        let status = withCStrings(options) {
            functions.nvrtcCompileProgram(program, Int32(options.count), $0)
        }
        guard status == 0 else {
            throw DeviceError(
                .failed,
                "NVRTC \(version) (\(path)) could not compile kernels for \(architecture): "
                    + "\(text(of: status))\n\(log(of: program))")
        }
        var size = 0
        try check(functions.nvrtcGetCUBINSize(program, &size), "say how long the machine code is")
        var image = [UInt8](repeating: 0, count: size)
        let copied = image.withUnsafeMutableBytes { bytes in
            functions.nvrtcGetCUBIN(program, bytes.baseAddress?.assumingMemoryBound(to: CChar.self))
        }
        try check(copied, "give the machine code")
        return image
    }

    private func log(of program: geeps_nvrtc_program?) -> String {
        var size = 0
        guard functions.nvrtcGetProgramLogSize(program, &size) == 0, size > 1 else { return "" }
        var log = [CChar](repeating: 0, count: size)
        guard functions.nvrtcGetProgramLog(program, &log) == 0 else { return "" }
        return String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func check(_ status: Int32, _ doing: String) throws(DeviceError) {
        guard status != 0 else { return }
        throw DeviceError(.failed, "NVRTC (\(path)) could not \(doing): \(text(of: status))")
    }

    private func text(of status: Int32) -> String {
        let name = functions.nvrtcGetErrorString(status).map { String(cString: $0) }
        return "\(name ?? "no name") (status \(status))"
    }

    /// Calls `body` with C strings that live as long.
    private func withCStrings<R>(
        _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R
    ) -> R {
        let copies = strings.map { Array($0.utf8CString) }
        var pointers: [UnsafePointer<CChar>?] = []
        func collect(_ index: Int) -> R {
            guard index < copies.count else {
                return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
            }
            return copies[index].withUnsafeBufferPointer { copy in
                pointers.append(copy.baseAddress)
                return collect(index + 1)
            }
        }
        return collect(0)
    }
}
