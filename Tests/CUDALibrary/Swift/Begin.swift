import CCUDALibrary
import CUDAEmulator
import Glibc
import Synchronization

/// The process's emulator, for programs that load this library as their driver.
private enum Process {
    static let emulator = CUDAEmulator.beginForProcess(
        {
            var configuration = CUDAEmulator.Configuration()
            configuration.hasForeignCode = true
            return configuration
        }())
    /// By C: stays until the next call.
    static let text = Mutex<UInt>(0)
}

/// Called when the library is loaded.
@c public func cuda_emulated_begin() {
    var (driver, nvrtc) = (Process.emulator.driver, Process.emulator.nvrtc)
    cuda_emulated_fill(&driver, &nvrtc)
}

/// What was found wrong so far, a line each; empty: nothing.
@c public func cuda_emulated_findings() -> UnsafePointer<CChar>? {
    let findings = Process.emulator.findings.joined(separator: "\n")
    return Process.text.withLock { text in
        free(UnsafeMutableRawPointer(bitPattern: text))
        let copy = strdup(findings)
        text = UInt(bitPattern: copy)
        return UnsafePointer(copy)
    }
}
