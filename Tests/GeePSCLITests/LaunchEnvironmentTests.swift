import Testing

@testable import GeePSCLI

@Suite struct LaunchEnvironmentTests {
    private let complete = [
        "GEEPS_RANK": "1", "GEEPS_WORLD_SIZE": "2", "GEEPS_RENDEZVOUS": "10.0.0.7:29500",
        "GEEPS_LOCAL_RANK": "1", "PATH": "/bin",
    ]

    @Test func aCompleteEnvironmentGivesAPlace() throws {
        #expect(
            try LaunchEnvironment.launch(from: complete)
                == Launch(
                    rank: 1, worldSize: 2, localRank: 1,
                    rendezvous: RendezvousAddress(host: "10.0.0.7", port: 29500)))
    }

    @Test func noVariableIsNoLaunch() throws {
        #expect(
            try LaunchEnvironment.launch(from: ["RANK": "3", "GEEPS_ORACLE_PYTHON": "x"]) == nil)
    }

    @Test func aJobOfOneNeedsNoRendezvous() throws {
        let launch = try LaunchEnvironment.launch(from: [
            "GEEPS_RANK": "0", "GEEPS_WORLD_SIZE": "1",
        ])
        #expect(launch == .alone)
    }

    @Test(arguments: [
        ("GEEPS_RANK", nil, "GEEPS_RANK is not set but GEEPS_WORLD_SIZE, GEEPS_RENDEZVOUS"),
        ("GEEPS_WORLD_SIZE", nil, "GEEPS_WORLD_SIZE is not set but GEEPS_RANK,"),
        ("GEEPS_RENDEZVOUS", nil, "GEEPS_RENDEZVOUS is not set but GEEPS_WORLD_SIZE is 2"),
        ("GEEPS_RANK", "2", "GEEPS_RANK is 2 but GEEPS_WORLD_SIZE is 2: ranks go from 0 to 1"),
        ("GEEPS_RANK", "-1", "GEEPS_RANK is '-1', expected an integer of 0 or more"),
        ("GEEPS_WORLD_SIZE", "0", "GEEPS_WORLD_SIZE is '0', expected an integer of 1 or more"),
        ("GEEPS_WORLD_SIZE", "two", "GEEPS_WORLD_SIZE is 'two'"),
        ("GEEPS_LOCAL_RANK", "2", "GEEPS_LOCAL_RANK is 2 but GEEPS_WORLD_SIZE is 2"),
        ("GEEPS_RENDEZVOUS", "10.0.0.7", "GEEPS_RENDEZVOUS is '10.0.0.7', expected host:port"),
        ("GEEPS_RENDEZVOUS", "a:0", "GEEPS_RENDEZVOUS is 'a:0'"),
        ("GEEPS_WORLDSIZE", "2", "unknown environment variable GEEPS_WORLDSIZE"),
    ])
    func whatDoesNotFitIsRefused(name: String, value: String?, expected: String) {
        var environment = complete
        environment[name] = value
        #expect {
            try LaunchEnvironment.launch(from: environment)
        } throws: {
            ($0 as? CLIError)?.code == .usage && "\($0)".hasPrefix(expected)
        }
    }

    @Test func anUnknownVariableNamesTheNearest() {
        #expect {
            try LaunchEnvironment.launch(from: ["GEEPS_RENDEVOUS": "a:1"])
        } throws: {
            "\($0)".hasSuffix("(did you mean GEEPS_RENDEZVOUS?)")
        }
    }

    @Test(arguments: ["host:1", "[fe80::1]:65535"])
    func addressesAreWrittenAsTheyAreRead(text: String) {
        #expect(RendezvousAddress(text).map { "\($0)" } == text)
    }

    @Test(arguments: ["", "host", ":1", "host:65536", "fe80::1:29500", "[]:1"])
    func otherAddressesAreRefused(text: String) { #expect(RendezvousAddress(text) == nil) }

    @Test func ranksReadTheirPlaceBackAndShareTheCores() throws {
        let commands = LocalLaunch.commands(
            worldSize: 3, port: 4000, arguments: ["geeps", "train"],
            environment: ["PATH": "/bin", "OMP_WAIT_POLICY": "active"], cores: 7)
        let launches = try commands.map { try LaunchEnvironment.launch(from: $0.environment) }
        #expect(launches.map { $0?.rank } == [0, 1, 2])
        #expect(launches.map { $0?.localRank } == [0, 1, 2])
        #expect(launches.allSatisfy { $0?.worldSize == 3 && $0?.rendezvous?.port == 4000 })
        #expect(commands.allSatisfy { $0.environment["OMP_NUM_THREADS"] == "2" })
        #expect(commands.allSatisfy { $0.environment["OMP_WAIT_POLICY"] == "active" })
        #expect(commands.allSatisfy { $0.arguments == ["geeps", "train"] })
    }

    @Test func launcherAndJobMustAgreeOnTheNumberOfWorkers() throws {
        let loader = JobLoader(
            file: "j", assignments: [], workers: nil, defaultWorkers: 2, checksPaths: false)
        let text = """
            model: {name: lenet}
            data: {format: synthetic, samples: 4, classes: 2, features: 2}
            optimizer: {name: sgd}
            train: {steps: 1}
            """
        var job = try loader.parse(text, in: JobDirectory(path: "/"))
        let launch = try #require(try LaunchEnvironment.launch(from: complete))
        try TrainCommand.check(launch, against: job)
        job.cluster.workers = 3
        #expect(throws: CLIError.self) { try TrainCommand.check(launch, against: job) }
    }
}
