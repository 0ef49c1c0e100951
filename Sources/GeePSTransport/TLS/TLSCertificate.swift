import CGeePSShims
import GeePSCore

/// A certificate of OpenSSL's, freed with its owner.
final class TLSCertificate: @unchecked Sendable {
    // Sendable: constant after init; OpenSSL counts references atomically.

    let pointer: OpaquePointer
    private let library: TLSLibrary

    /// Takes ownership of `pointer`.
    init(_ pointer: OpaquePointer, library: TLSLibrary) {
        self.pointer = pointer
        self.library = library
    }

    deinit { library.functions.X509_free(pointer) }

    /// All certificates in PEM text, in order; what is between them does not count.
    static func all(inPEM bytes: [UInt8], library: TLSLibrary) -> [TLSCertificate] {
        let functions = library.functions
        return bytes.withUnsafeBytes { source in
            guard let bio = functions.BIO_new_mem_buf(source.baseAddress, Int32(source.count))
            else { return [] }
            defer { _ = functions.BIO_free(bio) }
            var found: [TLSCertificate] = []
            while let pointer = functions.PEM_read_bio_X509(bio, nil, geeps_tls_no_password, nil) {
                found.append(TLSCertificate(pointer, library: library))
            }
            // The end of the file is an error to OpenSSL.
            functions.ERR_clear_error()
            return found
        }
    }

    /// "CN=node,O=lab"; "no name" where it is empty.
    var name: String {
        let text = library.text { bio in
            _ = library.functions.X509_NAME_print_ex(
                bio, library.functions.X509_get_subject_name(pointer), 0,
                UInt(GEEPS_TLS_NAME_FORMAT))
        }
        // A name may come from anybody and goes into messages.
        return text.isEmpty ? "no name" : String(text.prefix(200))
    }

    /// Until when it is valid: "Nov 28 03:35:46 2027 GMT".
    var end: String { text(of: library.functions.X509_get0_notAfter(pointer)) }

    /// From when on.
    var start: String { text(of: library.functions.X509_get0_notBefore(pointer)) }

    var hasExpired: Bool {
        library.functions.X509_cmp_current_time(library.functions.X509_get0_notAfter(pointer)) < 0
    }

    var isYetToStart: Bool {
        library.functions.X509_cmp_current_time(library.functions.X509_get0_notBefore(pointer)) > 0
    }

    /// What is wrong with this certificate when OpenSSL's verification ended with `error`, after its name.
    ///
    /// - Parameter authority: names the CA that was expected.
    func objection(_ error: Int, authority: String) -> String {
        switch error {
        case Int(GEEPS_TLS_VERIFY_EXPIRED): "expired on \(end), expected one that is valid now"
        case Int(GEEPS_TLS_VERIFY_NOT_YET_VALID):
            "is valid from \(start) on, expected one that is valid now; are the clocks right?"
        case Int(GEEPS_TLS_VERIFY_PURPOSE):
            "is not for this use, expected one without extendedKeyUsage or with both serverAuth and clientAuth: "
                + "every process calls and is called"
        default:
            "is not of the job's CA, expected one signed by \(authority) "
                + "(\(library.words(library.functions.X509_verify_cert_error_string(error))))"
        }
    }

    private func text(of time: OpaquePointer?) -> String {
        library.text { bio in _ = library.functions.ASN1_TIME_print(bio, time) }
    }
}
