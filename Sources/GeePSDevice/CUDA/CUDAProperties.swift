import CGeePSShims

/// What the driver tells of a GPU.
public struct CUDAProperties: Hashable, Sendable {
    /// Of its architecture; 9.0 is `sm_90`.
    public struct Capability: Hashable, Sendable, Comparable, CustomStringConvertible {
        /// The generation.
        public var major: Int
        /// Its variant.
        public var minor: Int

        /// Capability `major.minor`.
        public init(major: Int, minor: Int) {
            self.major = major
            self.minor = minor
        }

        /// "9.0".
        public var description: String { "\(major).\(minor)" }

        /// Whether `a` is the older one.
        public static func < (a: Capability, b: Capability) -> Bool {
            (a.major, a.minor) < (b.major, b.minor)
        }
    }

    /// Its number among those the driver shows.
    public var ordinal: Int
    /// As sold: "NVIDIA H100 80GB HBM3".
    public var name: String
    /// All of its memory.
    public var totalBytes: Int
    /// Its architecture.
    public var capability: Capability
    /// How many multiprocessors it has.
    public var multiprocessors: Int
    /// How many copies run at once beside kernels; two: one each way.
    public var copyEngines: Int
    /// Where it is on the bus: "0000:19:00.0".
    public var pciBusID: String
    /// As `CUDADriver.version()`.
    public var driverVersion: Int

    /// Asks `driver` about GPU `ordinal`; takes no memory on it.
    ///
    /// - Throws: `.unavailable` when there is no such GPU; `.failed`.
    public init(driver: CUDADriver, ordinal: Int) throws(DeviceError) {
        let count = try driver.initialise()
        guard ordinal >= 0 && ordinal < count else {
            throw DeviceError(
                .unavailable,
                "got device cuda:\(ordinal), expected "
                    + (count == 1 ? "cuda:0, the only GPU" : "one of cuda:0 to cuda:\(count - 1)")
                    + " that the driver shows")
        }
        let query = try CUDAQuery(driver: driver, ordinal: ordinal)
        self.ordinal = ordinal
        name = try query.text("cuDeviceGetName", driver.functions.cuDeviceGetName)
        totalBytes = try query.totalBytes()
        capability = Capability(
            major: try query.attribute(GEEPS_CU_COMPUTE_CAPABILITY_MAJOR),
            minor: try query.attribute(GEEPS_CU_COMPUTE_CAPABILITY_MINOR))
        multiprocessors = try query.attribute(GEEPS_CU_MULTIPROCESSOR_COUNT)
        copyEngines = try query.attribute(GEEPS_CU_ASYNC_ENGINE_COUNT)
        pciBusID = try query.text("cuDeviceGetPCIBusId", driver.functions.cuDeviceGetPCIBusId)
        driverVersion = try driver.version()
    }
}

/// Questions about one GPU.
private struct CUDAQuery {
    let driver: CUDADriver
    let ordinal: Int
    let device: Int32

    init(driver: CUDADriver, ordinal: Int) throws(DeviceError) {
        self.driver = driver
        self.ordinal = ordinal
        device = try driver.device(ordinal: ordinal)
    }

    func attribute(_ attribute: Int) throws(DeviceError) -> Int {
        var value: Int32 = 0
        try driver.check(
            driver.functions.cuDeviceGetAttribute(&value, Int32(attribute), device),
            "cuDeviceGetAttribute", "ask cuda:\(ordinal) for attribute \(attribute)")
        return Int(value)
    }

    func totalBytes() throws(DeviceError) -> Int {
        var bytes = 0
        try driver.check(
            driver.functions.cuDeviceTotalMem_v2(&bytes, device), "cuDeviceTotalMem_v2",
            "ask cuda:\(ordinal) for its memory")
        return bytes
    }

    func text(
        _ name: StaticString,
        _ function: (UnsafeMutablePointer<CChar>?, Int32, Int32) -> Int32
    ) throws(DeviceError) -> String {
        var text = [CChar](repeating: 0, count: 256)
        // One less than there is: the last stays the terminator.
        try driver.check(function(&text, 255, device), name, "ask cuda:\(ordinal) for its name")
        return text.withUnsafeBufferPointer { buffer in
            String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }
}

extension CUDADriver {
    /// The driver's handle of GPU `ordinal`.
    func device(ordinal: Int) throws(DeviceError) -> Int32 {
        var device: Int32 = 0
        try check(
            functions.cuDeviceGet(&device, Int32(ordinal)), "cuDeviceGet", "open cuda:\(ordinal)")
        return device
    }
}
