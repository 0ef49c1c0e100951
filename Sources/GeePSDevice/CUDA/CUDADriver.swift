public import CGeePSShims
import Glibc

/// CUDA's driver as this process found it, or as a test put it together.
public struct CUDADriver: @unchecked Sendable {
    // Sendable: a table of C functions that any thread may call.

    /// The driver's functions.
    public let functions: geeps_cuda_driver
    /// The oldest version that will do, as `cuDriverGetVersion` counts: 12.0.
    public static let versionMinimum = 12_000

    /// A driver of these functions.
    public init(functions: geeps_cuda_driver) { self.functions = functions }

    /// Opens the system's driver; it stays open.
    ///
    /// - Throws: `.unavailable`, with what was looked for and what would help.
    public static func load() throws(DeviceError) -> CUDADriver {
        // The second is where Windows lends its driver to Linux.
        try load(from: ["libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"])
    }

    static func load(from names: [String]) throws(DeviceError) -> CUDADriver {
        guard let (library, name) = openLibrary(names) else {
            // The first name is the one that people know.
            _ = dlopen(names[0], RTLD_NOW | RTLD_LOCAL)
            let answer = dlerror().map { String(cString: $0) } ?? "no answer"
            throw DeviceError(
                .unavailable,
                "found no NVIDIA driver: \(answer), expected libcuda.so.1; install the driver, or "
                    + "use memory.device: host")
        }
        var functions = geeps_cuda_driver()
        if let missing = geeps_cuda_driver_load(&functions, library) {
            throw DeviceError(
                .unavailable,
                "found an NVIDIA driver (\(name)) without \(String(cString: missing)), expected one "
                    + "for CUDA \(versionText(versionMinimum)) or newer; update the driver, or use "
                    + "memory.device: host")
        }
        return CUDADriver(functions: functions)
    }

    /// Gets the driver ready; quick when it is.
    ///
    /// - Returns: how many GPUs it shows, one at least; `CUDA_VISIBLE_DEVICES` is applied.
    /// - Throws: `.unavailable`: too old, no GPU, a driver that does not work.
    @discardableResult
    public func initialise() throws(DeviceError) -> Int {
        let version = try self.version()
        guard version >= Self.versionMinimum else {
            throw DeviceError(
                .unavailable,
                "found an NVIDIA driver for CUDA \(Self.versionText(version)), expected one for "
                    + "\(Self.versionText(Self.versionMinimum)) or newer; update the driver, or use "
                    + "memory.device: host")
        }
        let status = functions.cuInit(0)
        guard status == 0 else { throw initialisationError(status) }
        var count: Int32 = 0
        try check(functions.cuDeviceGetCount(&count), "cuDeviceGetCount", "count GPUs")
        guard count > 0 else { throw initialisationError(Int32(GEEPS_CU_NO_DEVICE)) }
        return Int(count)
    }

    /// The CUDA version the driver is for: 1000 times the major plus 10 times the minor one.
    public func version() throws(DeviceError) -> Int {
        var version: Int32 = 0
        try check(
            functions.cuDriverGetVersion(&version), "cuDriverGetVersion",
            "ask the NVIDIA driver for its version")
        return Int(version)
    }

    /// "12.4" of 12040.
    public static func versionText(_ version: Int) -> String {
        "\(version / 1000).\(version % 1000 / 10)"
    }

    // MARK: Errors

    /// - Throws: what `error` makes of a status that is not success.
    func check(
        _ status: Int32, _ function: StaticString, _ doing: @autoclosure () -> String
    ) throws(DeviceError) {
        guard status != 0 else { return }
        throw error(status, function, doing())
    }

    /// What `function` answered when it was to do what `doing` says, in words.
    public func error(_ status: Int32, _ function: StaticString, _ doing: String) -> DeviceError {
        let code: DeviceError.Code =
            switch Int(status) {
            case Int(GEEPS_CU_OUT_OF_MEMORY): .outOfMemory
            case Int(GEEPS_CU_NO_DEVICE), Int(GEEPS_CU_INVALID_DEVICE),
                Int(GEEPS_CU_SYSTEM_DRIVER_MISMATCH):
                .unavailable
            default: .failed
            }
        return DeviceError(code, "\(doing): \(function) answered \(text(of: status))")
    }

    /// "CUDA_ERROR_INVALID_VALUE (1): invalid argument".
    func text(of status: Int32) -> String {
        var name: UnsafePointer<CChar>?
        var text: UnsafePointer<CChar>?
        let isKnown = functions.cuGetErrorName(status, &name) == 0
        guard isKnown, let name, functions.cuGetErrorString(status, &text) == 0, let text else {
            return "status \(status), which it does not explain"
        }
        return "\(String(cString: name)) (\(status)): \(String(cString: text))"
    }

    private func initialisationError(_ status: Int32) -> DeviceError {
        let advice =
            switch Int(status) {
            case Int(GEEPS_CU_NO_DEVICE): Self.adviceWithoutDevice
            case Int(GEEPS_CU_SYSTEM_DRIVER_MISMATCH):
                "the library is of another version than the kernel's module: reboot after an update "
                    + "of the driver, or install the one that `cat /proc/driver/nvidia/version` shows"
            case 34: "this libcuda.so.1 is the toolkit's stub for linking; install the driver"
            case 802: "start nvidia-fabricmanager, which GPUs with NVSwitch need"
            default: "see whether nvidia-smi works"
            }
        return DeviceError(
            .unavailable,
            "found no NVIDIA GPU that works: cuInit answered \(text(of: status)); \(advice), or use "
                + "memory.device: host")
    }

    private static var adviceWithoutDevice: String {
        guard let value = getenv("CUDA_VISIBLE_DEVICES") else {
            return "see whether nvidia-smi lists one"
        }
        return "CUDA_VISIBLE_DEVICES is \"\(String(cString: value))\", which may hide all of them"
    }
}

/// Opens the first library there is of `names`; `dlerror` has the last answer when there is none.
func openLibrary(_ names: [String]) -> (handle: UnsafeMutableRawPointer, name: String)? {
    for name in names {
        if let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) { return (handle, name) }
    }
    return nil
}
