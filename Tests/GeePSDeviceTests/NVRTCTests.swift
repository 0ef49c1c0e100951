import CGeePSKernels
import CGeePSShims
import Glibc
import Testing

/// NVIDIA's compiler of kernels, which needs no GPU.
enum NVRTCLibrary {
    /// The library file that `GEEPS_NVRTC` names.
    static let path: String? = getenv("GEEPS_NVRTC").map { String(cString: $0) }

    /// Opens it once, its part for built-in functions first: it looks for that by name only.
    static let table: Result<geeps_cuda_nvrtc, NVRTCFailure> = {
        let path = Self.path ?? ""
        let folder = String(path.prefix(through: path.lastIndex(of: "/") ?? path.startIndex))
        for file in files(in: folder) where file.hasPrefix("libnvrtc-builtins.so") {
            _ = dlopen(folder + file, RTLD_NOW | RTLD_GLOBAL)
        }
        guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            return .failure(NVRTCFailure(text: "\(path): \(String(cString: dlerror()))"))
        }
        var table = geeps_cuda_nvrtc()
        if let missing = geeps_cuda_nvrtc_load(&table, library) {
            return .failure(NVRTCFailure(text: "\(path) lacks \(String(cString: missing))"))
        }
        return .success(table)
    }()

    private static func files(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                })
        }
        return names
    }
}

struct NVRTCFailure: Error {
    let text: String
}

@Suite(
    "NVRTC", .enabled(if: NVRTCLibrary.path != nil, "needs NVRTC: GEEPS_NVRTC names its library"))
struct NVRTCTests {
    /// Ampere, Hopper and Blackwell; Volta where the library still has it.
    static let architectures: [Int32] = {
        guard let nvrtc = try? NVRTCLibrary.table.get() else { return [80, 90, 100] }
        return supported(nvrtc).filter { $0 == 70 } + [80, 90, 100]
    }()

    private static func supported(_ nvrtc: geeps_cuda_nvrtc) -> [Int32] {
        var count: Int32 = 0
        guard nvrtc.nvrtcGetNumSupportedArchs(&count) == 0 else { return [] }
        var all = [Int32](repeating: 0, count: Int(count))
        guard nvrtc.nvrtcGetSupportedArchs(&all) == 0 else { return [] }
        return all
    }

    @Test(arguments: architectures)
    func theTextCompilesWithoutAWarningToEveryKernel(architecture: Int32) throws {
        let nvrtc = try NVRTCLibrary.table.get()
        let (log, image) = try compile(
            nvrtc, ["--gpu-architecture=sm_\(architecture)", "--fmad=false", "--std=c++17"])
        // A remark of CUDA 12 about the architecture, not about the text.
        let complaints = log.split(separator: "\n").filter {
            !$0.contains("are deprecated and may")
        }
        #expect(complaints == [])
        var names: Set<String> = []
        while let name = geeps_cuda_kernel_name(Int32(names.count)) {
            names.insert(String(cString: name))
        }
        #expect(kernels(in: image) == names)
    }

    private func compile(
        _ nvrtc: geeps_cuda_nvrtc, _ options: [String]
    ) throws -> (log: String, image: [UInt8]) {
        var program: geeps_nvrtc_program?
        let created = nvrtc.nvrtcCreateProgram(
            &program, geeps_cuda_source(), "geeps.cu", 0, nil, nil)
        try #require(created == 0)
        defer { _ = nvrtc.nvrtcDestroyProgram(&program) }
        let texts = options.map { strdup($0) }
        defer { for text in texts { free(text) } }
        let status = texts.map { UnsafePointer($0) }.withUnsafeBufferPointer {
            nvrtc.nvrtcCompileProgram(program, Int32($0.count), $0.baseAddress)
        }
        var byteCount = 0
        try #require(nvrtc.nvrtcGetProgramLogSize(program, &byteCount) == 0)
        var log = [CChar](repeating: 0, count: byteCount + 1)
        try #require(nvrtc.nvrtcGetProgramLog(program, &log) == 0)
        let text = log.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        try #require(status == 0, "NVRTC: \(text)")
        try #require(nvrtc.nvrtcGetCUBINSize(program, &byteCount) == 0)
        var image = [CChar](repeating: 0, count: byteCount)
        try #require(nvrtc.nvrtcGetCUBIN(program, &image) == 0)
        return (text, image.map { UInt8(bitPattern: $0) })
    }

    /// Names of the kernels in an image: an ELF file, in which each has a section.
    private func kernels(in image: [UInt8]) -> Set<String> {
        let prefix = Array(".text.".utf8)
        let names = image.split(separator: 0).filter { $0.starts(with: prefix) }
        return Set(names.map { String(decoding: $0.dropFirst(prefix.count), as: UTF8.self) })
    }
}
