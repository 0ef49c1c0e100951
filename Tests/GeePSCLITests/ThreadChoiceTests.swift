import Testing

@testable import GeePSCLI

@Suite struct ThreadChoiceTests {
    @Test(arguments: [
        (0, 8, 1), (19_999_999, 8, 1), (39_999_999, 8, 1), (40_000_000, 8, 2),
        (10_000_000_000, 8, 8),
        (10_000_000_000, 2, 2),
    ])
    func threadsFollowTheWorkUpToTheCores(work: Int, cores: Int, expected: Int) {
        #expect(ThreadChoice.count(multiplyAdds: work, cores: cores, environment: [:]) == expected)
    }

    @Test(arguments: [(2, 8, 4), (3, 8, 2), (8, 2, 1), (1, 8, 1)])
    func workersOfAMachineShareItsCores(workers: Int, cores: Int, expected: Int) throws {
        let count = ThreadChoice.count(
            multiplyAdds: 0, cores: cores, workers: workers, environment: [:])
        #expect(count == expected)
        guard workers > 1 else { return }
        let command = try #require(
            LocalLaunch.commands(
                worldSize: workers, port: 1, arguments: [], environment: [:], cores: cores
            ).first)
        #expect(command.environment["OMP_NUM_THREADS"] == "\(expected)", "as a worker has it")
    }

    @Test func theEnvironmentDecidesWhenItSaysSomething() {
        let given = ["OMP_NUM_THREADS": "3"]
        #expect(ThreadChoice.count(multiplyAdds: 0, cores: 8, environment: given) == nil)
        let empty = ["OMP_NUM_THREADS": ""]
        #expect(ThreadChoice.count(multiplyAdds: 0, cores: 8, environment: empty) == 1)
    }
}
