import GeePS
import GeePSCore
import GeePSTransport

/// What `geeps doctor` says about connections: whether TLS is to be had, and with which files; whether UCX and RDMA devices are.
struct DoctorNetwork {
    private let library: Result<TLSLibrary, TransportError>
    /// What the environment's files come to; nil where it names none.
    private let context: Result<TLSContext, any Error>?
    private let ucx: Result<UCXLibrary, TransportError>
    private let devices = UCXDevices()

    init() {
        ucx = Result { () throws(TransportError) in try UCXLibrary.load() }
        library = Result { () throws(TransportError) in try TLSLibrary.load() }
        do {
            guard let files = try TLSFiles.known() else {
                context = nil
                return
            }
            context = .success(try TLSContext(files))
        } catch {
            context = .failure(error)
        }
    }

    var lines: [String] {
        var lines = [
            "network",
            "  tcp            congestion control \(loopbackCongestionControl()) on loopback",
        ]
        switch library {
        case .success(let library):
            let aes = TLSLibrary.hasAES ? "AES by the processor" : "AES without instructions: slow"
            lines.append("  ✓ TLS 1.3      \(library.version), \(aes)")
        case .failure(let error): lines.append("  ✗ \(error.message)")
        }
        switch context {
        case nil:
            lines.append(
                "    certificate  none in the environment (\(TLSFiles.variables[0])); a job may name one"
            )
        case .success(let context):
            lines.append(
                "  ✓ certificate  \(context.name), valid until \(context.end), of \(context.authority)"
            )
            if let warning = context.warning { lines.append("  ! \(warning)") }
        case .failure(let error): lines.append("  ✗ \(error)")
        }
        return lines + Self.lines(ucx: ucx.map(\.version), devices)
    }

    /// What is said of UCX, whose version or problem is `library`.
    ///
    /// It is missed only where there is a device for it.
    static func lines(
        ucx library: Result<String, TransportError>, _ devices: UCXDevices
    ) -> [String] {
        let names = devices.active.joined(separator: ", ")
        let found =
            names.isEmpty
            ? "no RDMA device that is up (\(UCXDevices.directory)): auto takes tcp between machines"
            : "RDMA \(names): auto takes it between machines, without TLS"
        let line =
            switch library {
            case .success(let version): "  ✓ UCX          \(version), \(found)"
            case .failure(let error) where names.isEmpty:
                "    UCX          none, and \(found) (\(error.message))"
            case .failure(let error): "  ✗ RDMA \(names), but \(error.message)"
            }
        return [line] + devices.unusable.map { "  ! RDMA         \($0)" }
    }

    private var ucxJSON: JSONValue {
        var version: String?
        var problem: String?
        switch ucx {
        case .success(let library): version = library.version
        case .failure(let error): problem = error.message
        }
        return .object([
            "library": version.map { .string($0) } ?? .null,
            "devices": .array(devices.active.map { .string($0) }),
            "unusable": .array(devices.unusable.map { .string($0) }),
            "problem": problem.map { .string($0) } ?? .null,
        ])
    }

    var json: JSONValue {
        let found = try? library.get()
        let certificate = try? context?.get()
        var problem: String?
        if case .failure(let error) = context { problem = "\(error)" }
        if case .failure(let error) = library { problem = error.message }
        return .object([
            "congestion_control": .string(loopbackCongestionControl()),
            "tls": .object([
                "library": found.map { .string($0.version) } ?? .null,
                "has_aes": .bool(TLSLibrary.hasAES),
                "certificate": certificate.map { .string($0.name) } ?? .null,
                "valid_until": certificate.map { .string($0.end) } ?? .null,
                "problem": problem.map { .string($0) } ?? .null,
            ]),
            "ucx": ucxJSON,
        ])
    }
}
