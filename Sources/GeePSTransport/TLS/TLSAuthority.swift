import CGeePSShims
public import GeePSCore

/// A CA of a job: makes certificates for its processes.
///
/// For trying TLS out and for clusters without a CA of their own; an organisation's CA does as well.
public final class TLSAuthority: @unchecked Sendable {
    // Sendable: constant after init; OpenSSL's keys may be used by several threads.

    /// A certificate and its key, both in PEM.
    public struct Identity: Sendable {
        /// `BEGIN CERTIFICATE`.
        public var certificate: [UInt8]
        /// `BEGIN PRIVATE KEY`, without a password.
        public var key: [UInt8]
    }

    /// The CA's own certificate and key.
    public let identity: Identity

    private let library: TLSLibrary
    private let certificate: TLSCertificate
    private let key: OpaquePointer

    /// Seconds of a day.
    public static let secondsPerDay = 86_400
    private static let version3 = 2
    /// Clocks of machines differ.
    private static let startSeconds = -300

    /// A new CA with a key of its own on the curve P-256.
    ///
    /// - Throws: `.certificate` where there is no OpenSSL.
    public init(name: String = "geeps job CA", days: Int = 365) throws(TransportError) {
        library = try TLSLibrary.load()
        key = try Self.makeKey(library)
        let made = Self.makeCertificate(
            name: name, seconds: days * Self.secondsPerDay, key: key, issuer: nil, issuerKey: key,
            extensions: [
                (Int(GEEPS_TLS_EXTENSION_BASIC_CONSTRAINTS), "critical,CA:TRUE,pathlen:0"),
                (Int(GEEPS_TLS_EXTENSION_KEY_USAGE), "critical,keyCertSign,cRLSign"),
            ], library)
        guard let made else {
            library.functions.EVP_PKEY_free(key)
            throw TransportError(
                .certificate, "cannot make a CA certificate: \(library.lastError.text)")
        }
        certificate = made
        identity = Self.identity(made, key, library)
    }

    deinit { library.functions.EVP_PKEY_free(key) }

    /// A certificate for processes of the job, which call and are called.
    ///
    /// - Parameter seconds: from now on; not above zero for one that has expired.
    public func issue(
        name: String, seconds: Int = 365 * secondsPerDay
    ) throws(TransportError) -> Identity {
        let key = try Self.makeKey(library)
        defer { library.functions.EVP_PKEY_free(key) }
        let made = Self.makeCertificate(
            name: name, seconds: seconds, key: key, issuer: certificate, issuerKey: self.key,
            extensions: [
                (Int(GEEPS_TLS_EXTENSION_BASIC_CONSTRAINTS), "critical,CA:FALSE"),
                (Int(GEEPS_TLS_EXTENSION_KEY_USAGE), "critical,digitalSignature"),
                (Int(GEEPS_TLS_EXTENSION_EXTENDED_KEY_USAGE), "serverAuth,clientAuth"),
            ], library)
        guard let made else {
            throw TransportError(
                .certificate,
                "cannot make a certificate for \(name): \(library.lastError.text)")
        }
        return Self.identity(made, key, library)
    }

    /// A context of a certificate that is nowhere but in memory; for benchmarks and tests.
    public func context() throws(TransportError) -> TLSContext {
        try context(of: issue(name: "geeps"))
    }

    func context(
        of own: Identity, recordsPerKey: UInt64 = TLSContext.recordsPerKeyDefault,
        checksOwn: Bool = true
    ) throws(TransportError) -> TLSContext {
        let material = TLSMaterial(
            certificate: .init(bytes: own.certificate, name: "memory"),
            key: .init(bytes: own.key, name: "memory"),
            ca: .init(bytes: identity.certificate, name: "memory"))
        return try TLSContext(material, recordsPerKey: recordsPerKey, checksOwn: checksOwn)
    }

    private static func makeKey(_ library: TLSLibrary) throws(TransportError) -> OpaquePointer {
        let functions = library.functions
        let context = functions.EVP_PKEY_CTX_new_id(Int32(GEEPS_TLS_KEY_EC), nil)
        defer { functions.EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard functions.EVP_PKEY_keygen_init(context) == 1,
            functions.EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, Int32(GEEPS_TLS_CURVE_P256))
                == 1,
            functions.EVP_PKEY_keygen(context, &key) == 1, let key
        else {
            throw TransportError(.certificate, "cannot make a key: \(library.lastError.text)")
        }
        return key
    }

    /// Nil when OpenSSL refuses; its last error says why.
    private static func makeCertificate(
        name: String, seconds: Int, key: OpaquePointer, issuer: TLSCertificate?,
        issuerKey: OpaquePointer, extensions: [(Int, String)], _ library: TLSLibrary
    ) -> TLSCertificate? {
        let functions = library.functions
        guard let pointer = functions.X509_new() else { return nil }
        let made = TLSCertificate(pointer, library: library)
        let subject = functions.X509_get_subject_name(pointer)
        let text = Array(name.utf8)
        // Positive, and of fewer bits than the 20 octets that RFC 5280 allows.
        let serial = UInt64.random(in: 1...UInt64(Int64.max))
        guard functions.X509_set_version(pointer, version3) == 1,
            functions.ASN1_INTEGER_set_uint64(functions.X509_get_serialNumber(pointer), serial)
                == 1,
            functions.X509_gmtime_adj(
                functions.X509_getm_notBefore(pointer), min(startSeconds, seconds - 60)) != nil,
            functions.X509_gmtime_adj(functions.X509_getm_notAfter(pointer), seconds) != nil,
            functions.X509_set_pubkey(pointer, key) == 1,
            functions.X509_NAME_add_entry_by_txt(
                subject, "CN", Int32(GEEPS_TLS_TEXT_UTF8), text, Int32(text.count), -1, 0) == 1,
            functions.X509_set_issuer_name(
                pointer, issuer.map { functions.X509_get_subject_name($0.pointer) } ?? subject)
                == 1
        else { return nil }
        for (kind, value) in extensions {
            guard let part = functions.X509V3_EXT_conf_nid(nil, nil, Int32(kind), value)
            else { return nil }
            defer { functions.X509_EXTENSION_free(part) }
            guard functions.X509_add_ext(pointer, part, -1) == 1 else { return nil }
        }
        guard functions.X509_sign(pointer, issuerKey, functions.EVP_sha256()) > 0 else {
            return nil
        }
        return made
    }

    private static func identity(
        _ certificate: TLSCertificate, _ key: OpaquePointer, _ library: TLSLibrary
    ) -> Identity {
        let functions = library.functions
        return Identity(
            certificate: library.bytes {
                _ = functions.PEM_write_bio_X509($0, certificate.pointer)
            },
            key: library.bytes {
                _ = functions.PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil)
            })
    }
}
