import CGeePSShims
public import GeePSCore
import Glibc

/// OpenSSL 3, which is found at run time: nothing of it is needed to build, or to run without TLS.
public struct TLSLibrary: @unchecked Sendable {
    // Sendable: a table of C functions that any thread may call.

    let functions: geeps_tls
    /// "OpenSSL 3.0.19 27 Jan 2026".
    public let version: String

    /// Once a process: OpenSSL is started by it.
    private static let shared: Result<TLSLibrary, TransportError> = open()

    /// The system's OpenSSL; it stays open.
    ///
    /// - Throws: `.certificate` with what was looked for and how to get it.
    public static func load() throws(TransportError) -> TLSLibrary { try shared.get() }

    /// Whether the processor has instructions for AES, which TLS is several times as fast with.
    public static var hasAES: Bool { geeps_has_aes() != 0 }

    private static func open() -> Result<TLSLibrary, TransportError> {
        guard let crypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL),
            let ssl = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL)
        else {
            let answer = dlerror().map { String(cString: $0) } ?? "no answer"
            return .failure(
                TransportError(
                    .certificate,
                    "TLS needs OpenSSL 3, found none: \(answer); install libssl3 (Debian, Ubuntu) or openssl-libs "
                        + "(Fedora, Red Hat), or leave cluster.tls out"))
        }
        var functions = geeps_tls()
        if let missing = geeps_tls_load(&functions, ssl, crypto) {
            return .failure(
                TransportError(
                    .certificate,
                    "found an OpenSSL without \(String(cString: missing)), expected OpenSSL 3.0 or newer: update "
                        + "libssl.so.3"))
        }
        let version = functions.OpenSSL_version(Int32(GEEPS_TLS_VERSION_STRING))
        return .success(
            TLSLibrary(
                functions: functions, version: version.map { String(cString: $0) } ?? "OpenSSL"))
    }

    /// Why the last call on this thread failed: OpenSSL's number and words.
    var lastError: (reason: Int, text: String) {
        let code = functions.ERR_peek_last_error()
        let reason = Int(code) & Int(GEEPS_TLS_REASON_MASK)
        guard code != 0 else { return (0, "no reason given") }
        return (reason, words(functions.ERR_reason_error_string(code)))
    }

    /// A text of OpenSSL's own.
    func words(_ text: UnsafePointer<CChar>?) -> String {
        text.map { String(cString: $0) } ?? "unknown"
    }

    /// What `write` writes into a BIO of OpenSSL's.
    func bytes(of write: (OpaquePointer) -> Void) -> [UInt8] {
        guard let bio = functions.BIO_new(functions.BIO_s_mem()) else { return [] }
        defer { _ = functions.BIO_free(bio) }
        write(bio)
        var bytes = [UInt8](repeating: 0, count: functions.BIO_ctrl_pending(bio))
        let count = bytes.withUnsafeMutableBytes { target in
            functions.BIO_read(bio, target.baseAddress, Int32(clamping: target.count))
        }
        return Array(bytes.prefix(max(0, Int(count))))
    }

    /// The same as text.
    func text(of write: (OpaquePointer) -> Void) -> String {
        String(decoding: bytes(of: write), as: UTF8.self)
    }
}
