import CGeePSShims
import GeePS

/// What to say when several processes of a job share this machine and nobody divided its cores between them; nil
/// otherwise.
///
/// OpenMP then gives every process all cores, and threads that wait for each other hold them: several times slower
/// than with cores divided. `LocalLaunch` divides them; other launchers may not.
func sharedCoresWarning(_ membership: Membership, environment: [String: String]) -> String? {
    let host = membership.processes[membership.rank].host
    let count = membership.processes.count { $0.host == host }
    guard count > 1, environment["OMP_NUM_THREADS"] == nil else { return nil }
    let cores = Int(geeps_available_cores())
    return "\(count) processes share \(host) and each computes with all \(cores) cores; "
        + "OMP_NUM_THREADS=\(max(1, cores / count)) would divide them"
}
