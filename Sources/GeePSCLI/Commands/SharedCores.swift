import CGeePSShims
import GeePS
import GeePSNN

/// What to say when several processes of a job share this machine and nobody divided its cores between them; nil
/// otherwise.
///
/// Threads that wait for each other hold their cores: several times slower than with cores divided. `LocalLaunch` divides them; other launchers may not.
func sharedCoresWarning(_ membership: Membership, environment: [String: String]) -> String? {
    let host = membership.processes[membership.rank].host
    let count = membership.processes.count { $0.host == host }
    let cores = Int(geeps_available_cores())
    let threads = ComputeThreads.current ?? cores
    guard count > 1, environment["OMP_NUM_THREADS"] == nil, threads * count > cores else {
        return nil
    }
    return "\(count) processes share \(host) and each computes with \(threads) of \(cores) cores; "
        + "OMP_NUM_THREADS=\(max(1, cores / count)) would divide them"
}
