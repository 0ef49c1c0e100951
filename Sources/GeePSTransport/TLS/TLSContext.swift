import CGeePSShims
public import GeePSCore

/// This process's side of the job's TLS: its certificate and key, and the CA that the others' must come from.
///
/// TLS 1.3 only, both sides with certificates; no session is resumed. Names in certificates are not compared with
/// host names: processes are started on machines that a scheduler picks, and who has a certificate of the job's CA is
/// taken for one of the job's. docs/decisions/0022-tls.md says more.
public final class TLSContext: @unchecked Sendable {
    // Sendable: constant after init; OpenSSL's contexts may be shared by threads that only make sessions of them.

    /// "CN=node": the name in this process's certificate.
    public let name: String
    /// Until when the certificate is valid.
    public let end: String
    /// A line about a key that others can read; nil where all is well.
    public let warning: String?
    /// The name of the CA and where it is from, for messages.
    public let authority: String

    let library: TLSLibrary
    let pointer: OpaquePointer
    /// Records that one side encrypts with a key before it takes the next one.
    ///
    /// RFC 8446, section 5.5, allows 2^24.5 with AES-GCM; a lane at 1 GB/s would be there in seven minutes.
    let recordsPerKey: UInt64

    static let recordsPerKeyDefault: UInt64 = 1 << 23
    /// The fastest first where the processor has AES.
    private static let ciphers =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

    /// Reads and checks the files.
    ///
    /// - Throws: `.certificate` with what is wrong: OpenSSL or a file is missing, the key is of another certificate,
    ///   the certificate has expired or is not of the CA.
    public convenience init(_ files: TLSFiles) throws(TransportError) {
        try self.init(TLSMaterial(files))
    }

    init(
        _ material: TLSMaterial, recordsPerKey: UInt64 = recordsPerKeyDefault,
        checksOwn: Bool = true
    ) throws(TransportError) {
        let library = try TLSLibrary.load()
        let functions = library.functions
        let chain = TLSCertificate.all(inPEM: material.certificate.bytes, library: library)
        guard let own = chain.first else {
            throw TransportError(
                .certificate,
                "found no certificate in \(material.certificate.name), expected PEM text with BEGIN CERTIFICATE"
            )
        }
        let roots = TLSCertificate.all(inPEM: material.ca.bytes, library: library)
        guard let root = roots.first else {
            throw TransportError(
                .certificate,
                "found no CA in \(material.ca.name), expected PEM text with BEGIN CERTIFICATE")
        }
        let key = try Self.key(in: material.key, library)
        defer { functions.EVP_PKEY_free(key) }
        guard functions.X509_check_private_key(own.pointer, key) == 1 else {
            throw TransportError(
                .certificate,
                "the key in \(material.key.name) is not that of the certificate in \(material.certificate.name) "
                    + "(\(own.name)), expected the two that were made together")
        }
        guard let pointer = functions.SSL_CTX_new(functions.TLS_method()) else {
            throw TransportError(
                .certificate, "OpenSSL makes no context: \(library.lastError.text)")
        }
        self.library = library
        self.pointer = pointer
        self.recordsPerKey = recordsPerKey
        name = own.name
        end = own.end
        warning = material.warning
        authority = "\(root.name) (\(material.ca.name))"
        // From here on `deinit` frees the context, also when this throws.
        try configure(own, chain: chain, roots: roots, key: key, name: material.certificate.name)
        if checksOwn { try check(own, chain: chain, name: material.certificate.name) }
    }

    deinit { library.functions.SSL_CTX_free(pointer) }

    private static func key(
        in part: TLSMaterial.Part, _ library: TLSLibrary
    ) throws(TransportError) -> OpaquePointer {
        let functions = library.functions
        functions.ERR_clear_error()
        let key = part.bytes.withUnsafeBytes { source -> OpaquePointer? in
            guard let bio = functions.BIO_new_mem_buf(source.baseAddress, Int32(source.count))
            else { return nil }
            defer { _ = functions.BIO_free(bio) }
            return functions.PEM_read_bio_PrivateKey(bio, nil, geeps_tls_no_password, nil)
        }
        if let key { return key }
        throw TransportError(
            .certificate,
            "cannot use the key in \(part.name): \(library.lastError.text), expected a private key in PEM without a "
                + "password")
    }

    private func configure(
        _ own: TLSCertificate, chain: [TLSCertificate], roots: [TLSCertificate],
        key: OpaquePointer, name: String
    ) throws(TransportError) {
        let functions = library.functions
        functions.ERR_clear_error()
        func control(_ command: Int, _ number: Int, _ pointer: OpaquePointer? = nil) -> Bool {
            functions.SSL_CTX_ctrl(
                self.pointer, Int32(command), number, UnsafeMutableRawPointer(pointer)) != 0
        }
        let version = Int(GEEPS_TLS_VERSION_1_3)
        var isDone =
            control(Int(GEEPS_TLS_CTRL_MINIMUM_VERSION), version)
            && control(Int(GEEPS_TLS_CTRL_MAXIMUM_VERSION), version)
            && functions.SSL_CTX_set_ciphersuites(pointer, Self.ciphers) == 1
            && functions.SSL_CTX_set_num_tickets(pointer, 0) == 1
        _ = functions.SSL_CTX_set_options(
            pointer,
            UInt64(GEEPS_TLS_OPTION_NO_TICKET) | UInt64(GEEPS_TLS_OPTION_NO_RENEGOTIATION))
        _ = control(
            Int(GEEPS_TLS_CTRL_MODE),
            Int(GEEPS_TLS_MODE_PARTIAL_WRITE) | Int(GEEPS_TLS_MODE_MOVING_WRITE_BUFFER)
                | Int(GEEPS_TLS_MODE_NO_AUTOMATIC_CHAIN))
        _ = control(Int(GEEPS_TLS_CTRL_SESSION_CACHE_MODE), 0)
        functions.SSL_CTX_set_verify(
            pointer,
            Int32(GEEPS_TLS_VERIFY_PEER) | Int32(GEEPS_TLS_VERIFY_FAIL_WITHOUT_CERTIFICATE),
            geeps_tls_verify)
        isDone =
            isDone && functions.SSL_CTX_use_certificate(pointer, own.pointer) == 1
            && functions.SSL_CTX_use_PrivateKey(pointer, key) == 1
        for between in chain.dropFirst() {
            isDone =
                isDone && control(Int(GEEPS_TLS_CTRL_CHAIN_CERTIFICATE), 1, between.pointer)
        }
        let store = functions.SSL_CTX_get_cert_store(pointer)
        for root in roots {
            isDone = isDone && functions.X509_STORE_add_cert(store, root.pointer) == 1
        }
        guard isDone else {
            throw TransportError(
                .certificate, "OpenSSL does not take \(name): \(library.lastError.text)")
        }
    }

    /// Finds out here what every peer would say.
    private func check(
        _ own: TLSCertificate, chain: [TLSCertificate], name: String
    ) throws(TransportError) {
        let functions = library.functions
        let stack = functions.OPENSSL_sk_new_null()
        defer { functions.OPENSSL_sk_free(stack) }
        for between in chain.dropFirst() {
            _ = functions.OPENSSL_sk_push(stack, UnsafeRawPointer(between.pointer))
        }
        let verification = functions.X509_STORE_CTX_new()
        defer { functions.X509_STORE_CTX_free(verification) }
        let store = functions.SSL_CTX_get_cert_store(pointer)
        guard functions.X509_STORE_CTX_init(verification, store, own.pointer, stack) == 1 else {
            throw TransportError(.certificate, "cannot check \(name): \(library.lastError.text)")
        }
        guard functions.X509_verify_cert(verification) != 1 else { return }
        let error = Int(functions.X509_STORE_CTX_get_error(verification))
        functions.ERR_clear_error()
        throw TransportError(
            .certificate,
            "the certificate in \(name) (\(own.name)) \(own.objection(error, authority: authority))"
        )
    }
}
