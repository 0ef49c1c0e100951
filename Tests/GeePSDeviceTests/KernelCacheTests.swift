import CUDAEmulator
import GeePSDevice
import Glibc
import Testing

/// Compiled kernels on disk.
@Suite struct KernelCacheTests {
    private let directory: String

    init() {
        var template = Array("/tmp/geeps-cache-XXXXXX".utf8CString)
        directory = String(cString: mkdtemp(&template))
    }

    private func start(
        _ emulator: CUDAEmulator, home: String? = nil, compiles: Bool = true
    ) throws(DeviceError) -> CUDADevice {
        let compiler = CUDACompiler(functions: emulator.nvrtc)
        let source = CUDAKernelSource(
            cache: KernelCache(directories: [home ?? directory], home: home ?? directory),
            compiler: { () throws(DeviceError) in
                guard compiles else { throw DeviceError(.unavailable, "no compiler here") }
                return compiler
            })
        return try CUDADevice(driver: emulator.cudaDriver, limitBytes: 1 << 20, kernels: source)
    }

    private var file: String {
        directory + "/" + KernelCache.fileName(source: CUDACompiler.source, architecture: "sm_90")
    }

    @Test func theSecondStartNeedsNoCompiler() throws {
        let findings = try CUDAEmulator.findings { emulator in
            _ = try start(emulator)
            #expect(emulator.callCount(of: "nvrtcCompileProgram") == 1)
            _ = try start(emulator, compiles: false)
            #expect(emulator.callCount(of: "nvrtcCompileProgram") == 1)
        }
        #expect(findings == [])
    }

    @Test func aFileThatIsNotWholeIsCompiledAnew() throws {
        try CUDAEmulator.run { emulator in
            _ = try start(emulator)
            let whole = try #require(bytes(of: file))
            for damaged in [[], Array(whole.dropLast(5)), whole.dropFirst(20) + [1, 2, 3]] {
                write(Array(damaged), to: file)
                _ = try start(emulator)
                #expect(bytes(of: file) == whole)
            }
        }
    }

    @Test func aFileThatTheDriverRefusesIsCompiledAnew() throws {
        try CUDAEmulator.run { emulator in
            KernelCache.write(Array("other machine code".utf8), to: file, directory: directory)
            _ = try start(emulator)
            #expect(emulator.callCount(of: "nvrtcCompileProgram") == 1)
            #expect(emulator.callCount(of: "cuModuleLoadData") == 2)
        }
    }

    @Test func aDirectoryThatCannotBeWrittenCostsOnlyTime() throws {
        try CUDAEmulator.run { emulator in
            _ = try start(emulator, home: "/proc/nowhere")
            _ = try start(emulator, home: "/proc/nowhere")
            #expect(emulator.callCount(of: "nvrtcCompileProgram") == 2)
        }
    }

    @Test func withoutCacheAndCompilerTheErrorIsTheCompilers() {
        CUDAEmulator.run { emulator in
            let error = #expect(throws: DeviceError.self) { try start(emulator, compiles: false) }
            #expect(error?.message == "no compiler here")
        }
    }

    @Test func anotherTextOrArchitectureIsAnotherFile() {
        let name = KernelCache.fileName(source: "a", architecture: "sm_90")
        #expect(name == KernelCache.fileName(source: "a", architecture: "sm_90"))
        #expect(name != KernelCache.fileName(source: "b", architecture: "sm_90"))
        #expect(name != KernelCache.fileName(source: "a", architecture: "sm_80"))
    }

    private func bytes(of path: String) -> [UInt8]? {
        guard let file = fopen(path, "rb") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        return Array(bytes.prefix(fread(&bytes, 1, bytes.count, file)))
    }

    private func write(_ bytes: [UInt8], to path: String) {
        guard let file = fopen(path, "wb") else { return }
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
    }
}
