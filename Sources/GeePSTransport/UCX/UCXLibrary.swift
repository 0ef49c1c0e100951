import CGeePSShims
public import GeePSCore
import Glibc
import Synchronization

/// UCX, which is found at run time: nothing of it is needed to build, or to run by another way.
public struct UCXLibrary: @unchecked Sendable {
    // Sendable: a table of C functions and a context that UCX guards for threads.

    let functions: geeps_ucx
    let context: OpaquePointer
    /// "UCX 1.13.1".
    public let version: String
    /// Both sides of a lane must have the same: major, minor and release in 16 bits each.
    let wireVersion: UInt64

    /// Once a process for each choice of transports: finding the devices takes UCX some milliseconds, and its workers
    /// share what it found.
    private static let opened = Mutex<[String?: Result<UCXLibrary, TransportError>]>([:])
    private static let loaded: Result<geeps_ucx, TransportError> = open()
    /// The structures and functions of `geeps_ucx.h` were compared with this version's headers.
    private static let oldest = (major: UInt32(1), minor: UInt32(13))

    /// The system's UCX; it stays open.
    ///
    /// - Parameter transports: what it may use, as in UCX_TLS; nil: what that says, else what UCX finds best.
    /// - Throws: `.system` with what was looked for and how to get it.
    public static func load(transports: String? = nil) throws(TransportError) -> UCXLibrary {
        try open(transports) { _ in true }
    }

    /// The same with the devices that there are now, for a lane that could not be made with those of `old`.
    ///
    /// UCX looks for devices once, and fails when one has gone since. The old one stays for the lanes that have it.
    static func reload(
        _ old: UCXLibrary, transports: String?
    ) throws(TransportError) -> UCXLibrary {
        try open(transports) { known in
            guard case .success(let library) = known else { return false }
            return library.context != old.context
        }
    }

    /// What is open for `transports` already, if it will do, or one that is opened now.
    private static func open(
        _ transports: String?, unless willDo: (Result<UCXLibrary, TransportError>) -> Bool
    ) throws(TransportError) -> UCXLibrary {
        let found = opened.withLock { opened in
            if let known = opened[transports], willDo(known) { return known }
            let result = Result { () throws(TransportError) in
                try UCXLibrary(try loaded.get(), transports)
            }
            opened[transports] = result
            return result
        }
        return try found.get()
    }

    private static func open() -> Result<geeps_ucx, TransportError> {
        guard let library = dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL) else {
            let answer = dlerror().map { String(cString: $0) } ?? "no answer"
            return .failure(
                TransportError(
                    .system,
                    "transport ucx needs UCX, found none: \(answer); install libucx0 (Debian, Ubuntu) or ucx (Fedora, "
                        + "Red Hat), or take another transport"))
        }
        var functions = geeps_ucx()
        if let missing = geeps_ucx_load(&functions, library) {
            return .failure(tooOld("one without \(String(cString: missing))"))
        }
        return .success(functions)
    }

    private static func tooOld(_ found: String) -> TransportError {
        TransportError(
            .system,
            "transport ucx: expected UCX 1 from \(oldest.major).\(oldest.minor) on, found \(found): update libucp.so.0"
        )
    }

    private init(_ functions: geeps_ucx, _ transports: String?) throws(TransportError) {
        var (major, minor, release) = (UInt32(0), UInt32(0), UInt32(0))
        functions.ucp_get_version(&major, &minor, &release)
        guard major == Self.oldest.major, minor >= Self.oldest.minor else {
            throw Self.tooOld("\(major).\(minor).\(release)")
        }
        self.functions = functions
        version = "UCX \(major).\(minor).\(release)"
        wireVersion = UInt64(major) << 32 | UInt64(minor) << 16 | UInt64(release)
        context = try Self.makeContext(functions, transports)
    }

    private static func makeContext(
        _ functions: geeps_ucx, _ transports: String?
    ) throws(TransportError) -> OpaquePointer {
        func check(_ status: geeps_ucx_status, _ action: String) throws(TransportError) {
            guard Int(status) != GEEPS_UCX_OK else { return }
            throw TransportError(
                .system, "UCX: \(action): \(describe(status, functions))")
        }
        // The user's variables, UCX_TLS, UCX_NET_DEVICES and the others, are read here.
        var configuration: OpaquePointer?
        try check(
            functions.ucp_config_read(nil, nil, &configuration), "read the variables UCX_*")
        defer { functions.ucp_config_release(configuration) }
        if let transports {
            try check(
                functions.ucp_config_modify(configuration, "TLS", transports),
                "use the transports \(transports)")
        }
        var wishes = geeps_ucx_params()
        wishes.field_mask = mask(GEEPS_UCX_PARAM_FEATURES, GEEPS_UCX_PARAM_WORKERS_SHARED)
        wishes.features = mask(GEEPS_UCX_FEATURE_MESSAGES, GEEPS_UCX_FEATURE_WAKEUP)
        wishes.mt_workers_shared = 1
        var context: OpaquePointer?
        try check(
            functions.ucp_init_version(
                oldest.major, oldest.minor, &wishes, configuration, &context), "start")
        guard let context else { preconditionFailure("UCX made no context and no error") }
        var attributes = geeps_ucx_context_attributes()
        attributes.field_mask = mask(GEEPS_UCX_CONTEXT_THREAD_MODE)
        try check(functions.ucp_context_query(context, &attributes), "ask for its threads")
        guard Int(attributes.thread_mode) == GEEPS_UCX_THREADS_MULTI else {
            functions.ucp_cleanup(context)
            throw TransportError(
                .system,
                "transport ucx needs a UCX for several threads, found one built without --enable-mt: take the "
                    + "distribution's, or another transport")
        }
        return context
    }

    /// UCX's words for `status`, and what it logged about it.
    static func describe(_ status: geeps_ucx_status, _ functions: geeps_ucx) -> String {
        let words =
            functions.ucs_status_string(status).map { String(cString: $0) } ?? "status \(status)"
        var bytes = [CChar](repeating: 0, count: 256)
        let count = geeps_ucx_take_complaint(&bytes, bytes.count)
        let complaint = String(
            decoding: bytes[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
        return complaint.isEmpty ? words : "\(words) (\(complaint))"
    }
}

/// The bits of a field or flag mask.
func mask(_ flags: Int...) -> UInt64 { flags.reduce(0) { $0 | UInt64($1) } }
