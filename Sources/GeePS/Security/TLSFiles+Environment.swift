public import GeePSTransport
import Glibc

extension TLSFiles {
    /// Variables with the paths of certificate, key and CA, in this order; each goes before what a job file says.
    ///
    /// For clusters whose machines have them in different places, and for programs that have no job file.
    public static let variables = ["GEEPS_TLS_CERTIFICATE", "GEEPS_TLS_KEY", "GEEPS_TLS_CA"]

    /// The files that the environment names, those of `given` where it does not; nil when nobody names any.
    ///
    /// - Parameter given: of a job file or a program; an empty path is none.
    /// - Throws: `LaunchError` (certificate) when some of the three are missing.
    public static func known(beside given: TLSFiles? = nil) throws(LaunchError) -> TLSFiles? {
        let others = [given?.certificate, given?.key, given?.ca]
        let paths = zip(variables, others).map { name, other in
            let text = getenv(name).map { String(cString: $0) } ?? ""
            return text.isEmpty ? other ?? "" : text
        }
        let missing = zip(variables, paths).filter { $0.1.isEmpty }.map(\.0)
        if missing.count == variables.count { return nil }
        guard missing.isEmpty else {
            throw LaunchError(
                .certificate,
                "TLS needs a certificate, its key and the CA, found only some of them: give "
                    + "\(missing.joined(separator: " and ")) or the keys of cluster.tls too")
        }
        return TLSFiles(certificate: paths[0], key: paths[1], ca: paths[2])
    }
}
