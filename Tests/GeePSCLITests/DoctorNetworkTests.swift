import GeePSCore
import GeePSTransport
import Testing

@testable import GeePSCLI

/// What `geeps doctor` says of UCX.
@Suite struct DoctorNetworkTests {
    private let up = UCXDevices(active: ["mlx5_0:1"], unusable: ["mlx5_1: no port is up"])
    private let none = UCXDevices(active: [], unusable: [])
    private let missing = Result<String, TransportError>.failure(
        TransportError(.system, "found none: install libucx0"))

    @Test func aDeviceWithItsLibraryIsTaken() {
        #expect(
            DoctorNetwork.lines(ucx: .success("UCX 1.13.1"), up) == [
                "  ✓ UCX          UCX 1.13.1, RDMA mlx5_0:1: auto takes it between machines, without TLS",
                "  ! RDMA         mlx5_1: no port is up",
            ])
    }

    @Test func aDeviceWithoutALibraryIsAProblemWithItsRemedy() {
        let lines = DoctorNetwork.lines(ucx: missing, up)
        #expect(lines[0] == "  ✗ RDMA mlx5_0:1, but found none: install libucx0")
    }

    @Test func whereThereIsNoDeviceNothingIsMissed() {
        let with = DoctorNetwork.lines(ucx: .success("UCX 1.13.1"), none)
        let without = DoctorNetwork.lines(ucx: missing, none)
        #expect(with.count == 1 && with[0].hasPrefix("  ✓ UCX          UCX 1.13.1, no RDMA device"))
        #expect(without.count == 1 && without[0].hasPrefix("    UCX          none, and no RDMA"))
    }
}
