import Testing

@testable import GeePSCLI

@Suite struct HostListTests {
    /// Answers of the real `scontrol show hostnames`.
    @Test(arguments: [
        ("n[1-4]", "n1 n2 n3 n4"),
        (
            "gpu-[003-005,9]-ib[0-1],login",
            "gpu-003-ib0 gpu-003-ib1 gpu-004-ib0 gpu-004-ib1 gpu-005-ib0 gpu-005-ib1 gpu-9-ib0 "
                + "gpu-9-ib1 login"
        ),
        ("a[08-11]", "a08 a09 a10 a11"), ("x1,x[3,5-6]", "x1 x3 x5 x6"),
        ("rack[1-2]n[01-02]", "rack1n01 rack1n02 rack2n01 rack2n02"), ("login", "login"),
        ("node7.cluster.example", "node7.cluster.example"), ("n[9-10]", "n9 n10"),
    ])
    func listsAreExpandedAsSlurmDoes(text: String, hosts: String) {
        #expect(HostList.hosts(of: text)?.joined(separator: " ") == hosts)
    }

    @Test(arguments: [
        "", ",", "a,", "n[1-4", "n1-4]", "n[[1]]", "n[]", "n[4-1]", "n[1-2-3]", "n[a-b]", "n[-1]",
        "n[0-99999999]", "n[0-9999][0-9999]", "n[18446744073709551616]",
    ])
    func otherTextsAreNoLists(text: String) { #expect(HostList.hosts(of: text) == nil) }
}
