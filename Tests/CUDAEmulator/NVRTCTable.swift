public import CGeePSShims
import GeePSCore
import Glibc

/// A program of the compiler.
final class ProgramObject {
    let source: String
    var image: [UInt8]?
    var log = ""

    init(source: String) { self.source = source }
}

extension CUDAEmulator {
    /// Source that holds this text does not compile.
    public static let errorMarker = "#error emulated"

    /// The compiler's functions.
    public var nvrtc: geeps_cuda_nvrtc {
        var table = geeps_cuda_nvrtc()
        table.nvrtcVersion = { major, minor in
            CUDAEmulator.call("nvrtcVersion", needs: .nothing) { call throws(Refusal) in
                try call.out(major).pointee = call.emulator.configuration.compilerVersion.major
                try call.out(minor).pointee = call.emulator.configuration.compilerVersion.minor
            }
        }
        table.nvrtcGetErrorString = { _ in CompilerText.error }
        table.nvrtcGetNumSupportedArchs = { count in
            count?.pointee = Int32(CompilerText.architectures.count)
            return Status.success
        }
        table.nvrtcGetSupportedArchs = { architectures in
            for (index, architecture) in CompilerText.architectures.enumerated() {
                architectures?[index] = architecture
            }
            return Status.success
        }
        table.nvrtcCreateProgram = { program, source, _, _, _, _ in
            CUDAEmulator.call("nvrtcCreateProgram", needs: .nothing) { call throws(Refusal) in
                guard let source else { throw call.refuse(Status.invalidValue, "no source") }
                let handle = CUDAEmulator.makeHandle()
                call.state.programs[handle] = ProgramObject(source: String(cString: source))
                try call.out(program).pointee = handle
            }
        }
        table.nvrtcDestroyProgram = { program in
            CUDAEmulator.call("nvrtcDestroyProgram", needs: .nothing) { call throws(Refusal) in
                let place = try call.out(program)
                guard let handle = place.pointee,
                    call.state.programs.removeValue(forKey: handle) != nil
                else { throw call.refuse(Status.invalidHandle, "no living program") }
                place.pointee = nil
            }
        }
        table.nvrtcCompileProgram = { program, count, options in
            CUDAEmulator.call("nvrtcCompileProgram", needs: .nothing) { call throws(Refusal) in
                let program = try call.program(program)
                let texts = (0..<Int(count)).compactMap { index in
                    options?[index].map { String(cString: $0) }
                }
                let architecture = texts.first { $0.hasPrefix("--gpu-architecture=sm_") }
                    .flatMap { Int32($0.dropFirst("--gpu-architecture=sm_".count)) }
                guard let architecture, CompilerText.architectures.contains(architecture) else {
                    program.log = "emulated: no such architecture in \(texts)"
                    throw call.fail(5)
                }
                guard !program.source.contains(CUDAEmulator.errorMarker) else {
                    program.log = "emulated: #error"
                    throw call.fail(6)
                }
                program.image = EmulatedImage.bytes
            }
        }
        table.nvrtcGetCUBINSize = { program, size in
            CUDAEmulator.call("nvrtcGetCUBINSize", needs: .nothing) { call throws(Refusal) in
                try call.out(size).pointee = try call.image(program).count
            }
        }
        table.nvrtcGetCUBIN = { program, image in
            CUDAEmulator.call("nvrtcGetCUBIN", needs: .nothing) { call throws(Refusal) in
                let target = try call.out(image)
                for (index, byte) in try call.image(program).enumerated() {
                    target[index] = CChar(bitPattern: byte)
                }
            }
        }
        table.nvrtcGetProgramLogSize = { program, size in
            CUDAEmulator.call("nvrtcGetProgramLogSize", needs: .nothing) { call throws(Refusal) in
                try call.out(size).pointee = try call.program(program).log.utf8.count + 1
            }
        }
        table.nvrtcGetProgramLog = { program, log in
            CUDAEmulator.call("nvrtcGetProgramLog", needs: .nothing) { call throws(Refusal) in
                strcpy(try call.out(log), try call.program(program).log)
            }
        }
        return table
    }
}

extension DriverCall {
    fileprivate func program(_ handle: OpaquePointer?) throws(Refusal) -> ProgramObject {
        guard let handle, let program = state.programs[handle] else {
            throw refuse(Status.invalidHandle, "\(name(handle)) is no living program")
        }
        return program
    }

    fileprivate func image(_ handle: OpaquePointer?) throws(Refusal) -> [UInt8] {
        guard let image = try program(handle).image else {
            throw refuse(Status.invalidValue, "the program was not compiled")
        }
        return image
    }
}

private enum CompilerText {
    static let architectures: [Int32] = [75, 80, 86, 89, 90, 100]
    nonisolated(unsafe) static let error = UnsafePointer(strdup("NVRTC_ERROR_EMULATED"))
}
