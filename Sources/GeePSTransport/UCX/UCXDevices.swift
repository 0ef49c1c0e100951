import Glibc

/// The RDMA devices of this machine, as the kernel lists them: what `auto` takes UCX for.
public struct UCXDevices: Sendable {
    /// A device with a port that is up: "mlx5_0:1".
    public var active: [String] = []
    /// Devices without one, or that this user may not open, and why.
    public var unusable: [String] = []

    /// Devices that are known.
    public init(active: [String], unusable: [String]) {
        self.active = active
        self.unusable = unusable
    }

    /// Where the kernel lists them.
    public static let directory = "/sys/class/infiniband"

    /// What is in `directory` and may be opened through the files in `devices`.
    public init(directory: String = Self.directory, devices: String = "/dev/infiniband") {
        let names = entries(of: directory)
        guard !names.isEmpty else { return }
        // A container sees the host's devices in /sys, and may not have been given them.
        let mayOpen = entries(of: devices).contains {
            $0.hasPrefix("uverbs") && access("\(devices)/\($0)", R_OK | W_OK) == 0
        }
        for name in names {
            let ports = entries(of: "\(directory)/\(name)/ports").filter { port in
                firstLine(of: "\(directory)/\(name)/ports/\(port)/state").contains("ACTIVE")
            }
            if ports.isEmpty {
                unusable.append("\(name): no port is up")
            } else if !mayOpen {
                unusable.append("\(name): no \(devices)/uverbs* that this user may open")
            } else {
                active += ports.map { "\(name):\($0)" }
            }
        }
    }

    /// Whether lanes of this process may take UCX without being told to: a device, and a library for it.
    ///
    /// Once a process; the library is not looked for where there is no device.
    public static let isOfUse = !UCXDevices().active.isEmpty && (try? UCXLibrary.load()) != nil
}

/// Names in a directory, in order; none where it cannot be read.
private func entries(of path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { start in
            start.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if !name.hasPrefix(".") { names.append(name) }
    }
    return names.sorted()
}

private func firstLine(of path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(descriptor, &bytes, bytes.count)
    return count > 0 ? String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self) : ""
}
