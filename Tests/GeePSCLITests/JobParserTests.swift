import GeePSCore
import GeePSNN
import Testing

@testable import GeePSCLI

/// A valid job; tests replace a section of it.
private let sections = [
    "model": "model: {layers: [{type: linear, out: 10}]}",
    "data": "data: {format: mnist, path: digits}",
    "optimizer": "optimizer: {name: sgd, lr: 0.1}",
    "train": "train: {epochs: 3}",
]

private func text(replacing section: String = "", with replacement: String = "") -> String {
    ["model", "data", "optimizer", "train"]
        .map { $0 == section ? replacement : sections[$0]! }
        .joined(separator: "\n") + (sections[section] == nil ? "\n" + replacement : "") + "\n"
}

private func load(_ text: String, set assignments: [String] = [], workers: Int? = nil) throws -> Job
{
    let loader = JobLoader(
        file: "job.yaml", assignments: assignments, workers: workers, defaultWorkers: 1,
        checksPaths: false)
    return try loader.parse(text, in: JobDirectory(path: "/jobs"))
}

private func problems(_ text: String, set assignments: [String] = []) -> [String] {
    do {
        _ = try load(text, set: assignments)
        return []
    } catch {
        return "\(error)".split(separator: "\n").map(String.init)
    }
}

@Suite struct JobParserTests {
    @Test func aShortJobGetsTheDefaults() throws {
        let job = try load(text())
        #expect(
            job
                == Job(
                    model: .layers(
                        ModelConfiguration(layers: [
                            LayerConfiguration(name: "linear0", kind: .linear(out: 10))
                        ])),
                    data: DataConfiguration(
                        source: .mnist(directory: "/jobs/digits"), batchSize: 32, isShuffled: true),
                    optimizer: OptimizerConfiguration(
                        rule: .sgd(momentum: 0, dampening: 0, nesterov: false), learningRate: 0.1),
                    length: .epochs(3), seed: 1, staleness: .bulkSynchronous,
                    cluster: ClusterConfiguration(
                        workers: 1, keepers: 1, transport: .automatic, port: 0,
                        interface: "auto", joinTimeout: .seconds(60), lanes: nil),
                    initialWeights: nil, outputDirectory: nil))
    }

    @Test(arguments: [
        (
            "{name: adam}", OptimizerRule.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8), 0.001, 0.0
        ),
        ("{name: adamw}", .adamW(beta1: 0.9, beta2: 0.999, epsilon: 1e-8), 0.001, 0.01),
        (
            "{name: adagrad}",
            .adaGrad(learningRateDecay: 0, initialAccumulator: 0, epsilon: 1e-10), 0.01, 0
        ),
        (
            "{name: rmsprop}", .rmsProp(alpha: 0.99, epsilon: 1e-8, momentum: 0, centered: false),
            0.01, 0
        ),
        ("{name: sgd}", .sgd(momentum: 0, dampening: 0, nesterov: false), 0.001, 0),
        ("{name: add, lr: 1e-4}", .add, 0.0001, 0),
    ])
    func optimizersHaveTheDefaultsOfPyTorch(
        section: String, rule: OptimizerRule, learningRate: Double, weightDecay: Double
    ) throws {
        let job = try load(text(replacing: "optimizer", with: "optimizer: " + section))
        #expect(job.optimizer.rule == rule)
        #expect(job.optimizer.learningRate == learningRate)
        #expect(job.optimizer.weightDecay == weightDecay)
    }

    @Test(arguments: [
        ("{name: constant}", Schedule(.constant)),
        ("{name: step, step_size: 10}", Schedule(.step(stepSize: 10, gamma: 0.1))),
        (
            "{name: multistep, milestones: [3, 7], gamma: 0.5, warmup: 4}",
            Schedule(.multistep(milestones: [3, 7], gamma: 0.5), warmup: 4)
        ),
        ("{name: exponential, gamma: 0.9}", Schedule(.exponential(gamma: 0.9))),
        ("{name: polynomial, total_iters: 9}", Schedule(.polynomial(total: 9, power: 1))),
        (
            "{name: cosine, T_max: 9, eta_min: 0.05}",
            Schedule(.cosine(period: 9, minimumFactor: 0.5))
        ),
    ])
    func schedulesAreRead(section: String, schedule: Schedule) throws {
        let optimizer = "optimizer: {name: sgd, lr: 0.1, schedule: \(section)}"
        #expect(
            try load(text(replacing: "optimizer", with: optimizer)).optimizer.schedule == schedule)
    }

    @Test func everyLayerTypeIsReadAndUnnamedOnesAreNamedByPosition() throws {
        let model = """
            model:
              layers:
                - {name: c, type: conv, out: 4, kernel: 3, pad: 1}
                - {type: relu}
                - {type: maxpool, kernel: 2}
                - {type: avgpool, kernel: 3, stride: 1, pad: 1}
                - {type: flatten}
                - {type: tanh}
                - {type: sigmoid}
                - {type: dropout}
                - {type: lstm, out: 6, steps: 4, keep: all}
                - {type: lstm, out: 5, steps: 4}
                - {type: linear, out: 10}
                - {type: lrn, size: 5, k: 2}
                - {type: batch_norm}
                - {type: batch_norm, eps: 1e-3, momentum: 0.3, affine: false}
            """
        let job = try load(text(replacing: "model", with: model))
        guard case .layers(let configuration) = job.model else {
            Issue.record("found \(job.model)")
            return
        }
        #expect(
            configuration.layers.map(\.name) == [
                "c", "relu1", "maxpool2", "avgpool3", "flatten4", "tanh5", "sigmoid6", "dropout7",
                "lstm8", "lstm9", "linear10", "lrn11", "batch_norm12", "batch_norm13",
            ])
        #expect(
            configuration.layers.map(\.kind) == [
                .convolution(out: 4, kernel: 3, stride: 1, padding: 1), .relu,
                .maxPooling(kernel: 2, stride: 2, padding: 0),
                .averagePooling(kernel: 3, stride: 1, padding: 1), .flatten, .tanh, .sigmoid,
                .dropout(probability: 0.5), .lstm(out: 6, steps: 4, keeps: .all),
                .lstm(out: 5, steps: 4, keeps: .last), .linear(out: 10),
                .localResponseNormalisation(size: 5, alpha: 1e-4, beta: 0.75, k: 2),
                .batchNormalisation(epsilon: 1e-5, momentum: 0.1, isAffine: true),
                .batchNormalisation(epsilon: 1e-3, momentum: 0.3, isAffine: false),
            ])
    }

    @Test(arguments: [
        ("model", "model: {layers: [{type: linear, out: 0}]}", "1:38: found the number 0 for"),
        ("model", "model: {layers: [{type: linera, out: 1}]}", "(did you mean 'linear'?)"),
        (
            "model", "model: {layers: [{type: linear}]}",
            "1:18: missing key 'out' in model.layers.0 (linear)"
        ),
        ("model", "model: {layers: [{type: relu, out: 3}]}", "1:31: found unknown key 'out'"),
        ("model", "model: {layers: []}", "1:17: found a list of 0"),
        ("model", "model: {name: lenett}", "1:15: found 'lenett' for model.name, expected one of"),
        ("model", "model: {}", "1:8: missing key 'layers' or 'name'"),
        ("model", "model: {name: lenet, layers: [{type: linear, out: 1}]}", "1:22: found both"),
        ("model", "model: 3", "1:8: found the number 3 for model, expected a map of keys"),
        ("model", "# none", "2:1: missing key 'model' in the job"),
        (
            "model", "model: {layers: [{name: a, type: relu}, {name: a, type: tanh}]}",
            "1:48: found another layer named 'a'"
        ),
        ("model", "model: {layers: [{type: dropout, p: 1.0}]}", "1:37: found the number 1.0"),
        ("model", "model: {layers: [{type: lrn}]}", "1:18: missing key 'size'"),
        ("model", "model: {layers: [{type: lrn, size: 0}]}", "1:36: found the number 0"),
        ("model", "model: {layers: [{type: bn}]}", "(did you mean 'batch_norm'?)"),
        (
            "model", "model: {layers: [{type: batch_norm, momentum: 2}]}",
            "1:47: found the number 2 for"
        ),
        ("model", "model: {layers: [{type: lstm, out: 3}]}", "missing key 'steps' in model.layers"),
        (
            "model", "model: {layers: [{type: lstm, out: 3, steps: 2, keep: first}]}",
            "found 'first' for model.layers.0.keep, expected one of last, all"
        ),
        ("model", "model: {layers: [{type: maxpool, kernel: 3, pad: 2}]}", "1:45: found pad 2"),
        ("data", "data: {format: idx, path: a}", "2:16: found 'idx' for data.format"),
        ("data", "data: {format: mnist}", "2:7: missing key 'path' in data (mnist)"),
        ("data", "data: {format: mnist, path: a, batch: 3}", "(did you mean 'batch_size'?)"),
        ("data", "data: {format: mnist, path: a, shuffle: 3}", "2:41: found the number 3"),
        (
            "data", "data: {format: synthetic, samples: 9, classes: 2}",
            "2:7: missing key 'features' or 'shape'"
        ),
        ("data", "data: {format: synthetic, samples: 9, classes: 1, features: 2}", "2:48: found"),
        ("optimizer", "optimizer: {lr: 0.1}", "3:12: missing key 'name' in optimizer"),
        ("optimizer", "optimizer: {name: sgd, lr: 0}", "3:28: found the number 0 for optimizer.lr"),
        ("optimizer", "optimizer: {name: sgd, lr: \"0.1\"}", "3:28: found the text \"0.1\""),
        ("optimizer", "optimizer: {name: sgd, lr: nan}", "3:28: found the number nan"),
        ("optimizer", "optimizer: {name: sgd, weigth_decay: 1}", "(did you mean 'weight_decay'?)"),
        ("optimizer", "optimizer: {name: sgd, nesterov: true}", "3:24: found nesterov with"),
        (
            "optimizer", "optimizer: {name: sgd, momentum: 0.9, dampening: 0.1, nesterov: true}",
            "3:55: found nesterov with"
        ),
        ("optimizer", "optimizer: {name: adam, amsgrad: true}", "3:25: found amsgrad: true"),
        ("optimizer", "optimizer: {name: adam, betas: [0.9, 1.0]}", "3:32: found a list of 2"),
        (
            "optimizer", "optimizer: {name: sgd, schedule: {name: step}}",
            "3:34: missing key 'step_size'"
        ),
        (
            "optimizer", "optimizer: {name: sgd, schedule: {name: multistep, milestones: [5, 5]}}",
            "3:52: found milestones [5, 5]"
        ),
        ("train", "train: {seed: 1}", "4:8: missing key 'epochs' or 'steps'"),
        ("train", "train: {epochs: 1, steps: 2}", "4:20: found both train.epochs and train.steps"),
        ("train", "train: {epochs: 1.5}", "4:17: found the number 1.5"),
        ("consistency", "consistency: {staleness: 1025}", "5:26: found the number 1025"),
        ("cluster", "cluster: {workers: 4097}", "5:20: found the number 4097"),
        ("cluster", "cluster: {workers: 2, keepers: 129}", "5:23: found 129 keepers for 2 workers"),
        ("cluster", "cluster: {transport: rdma}", "5:22: found 'rdma' for cluster.transport"),
        (
            "cluster", "cluster: {reconnect_timeout: 0s}",
            "5:30: found '0s' for cluster.reconnect_timeout"
        ),
        ("cluster", "cluster: {join_timeout: 0s}", "5:25: found '0s' for cluster.join_timeout"),
        ("output", "output: {}", "5:9: missing key 'directory' in output"),
        ("emulate", "emulate: {delay: 5ms}", "5:10: missing key 'clock' in emulate"),
        ("emulate", "emulate: {clock: 25h}", "5:18: found '25h' for emulate.clock"),
        (
            "emulate", "emulate: {clock: 5ms, delay: 5ms, delayed: 1}",
            "5:44: found the number 1 for emulate.delayed, expected turns, or the rank of one of 1 worker"
        ),
        (
            "emulate", "emulate: {clock: 5ms, delayed: turns}",
            "5:23: found emulate.delayed without emulate.delay"
        ),
        ("train", "train: {epochs: 1, validate_every: 0}", "found the number 0"),
        ("init", "init: [a]", "5:7: found a list of 1 for init"),
        ("other", "optimiser: 3", "(did you mean 'optimizer'?)"),
    ])
    func aMistakeIsReportedWhereItStands(section: String, replacement: String, expected: String) {
        let found = problems(text(replacing: section, with: replacement))
        #expect(found.count == 1, "\(found)")
        #expect(found.first?.hasPrefix("job.yaml:") == true)
        #expect(found.first?.contains(expected) == true, "\(found)")
    }

    @Test func theLastAcceptedValuesAreAccepted() throws {
        let lines =
            "cluster: {workers: 4096, keepers: 4096, lanes: 64}\nconsistency: {staleness: 1024}"
        let job = try load(text(replacing: "cluster", with: lines))
        #expect(job.cluster.workers == 4096)
        #expect(job.staleness == .clocks(1024))
    }

    @Test(arguments: [
        "{background: false}", "{parameter_cache: host, background: true}",
        "{parameter_cache: host, budget: 35%}",
    ])
    func aServerThatIsHalfCPUSideIsRefused(memory: String) {
        #expect(problems(text(), set: ["memory=\(memory)"]).count == 1)
    }

    @Test(arguments: [
        "{clock: 20ms}", "{clock: 1s, delay: 1500ms, delayed: 2}", "{clock: 5ms, delay: 5ms}",
    ])
    func aPaceIsPrintedAsItIsRead(pace: String) throws {
        let job = try load(text(), set: ["emulate=\(pace)", "cluster.workers=3"])
        #expect(job.pace != nil)
        #expect(try load(job.yaml) == job)
    }

    @Test func aPaceIsOneOfTheHost() {
        let found = problems(text(), set: ["emulate={clock: 5ms}", "memory={device: cuda}"])
        #expect(found.count == 1 && found[0].contains("found emulate with layers on a GPU"))
    }

    @Test func aCPUSideServerIsOneInTheForeground() throws {
        let short = try load(text(), set: ["memory={parameter_cache: host}"])
        #expect(short.memory?.isCPUSide == true)
        #expect(
            try load(text(), set: ["memory={parameter_cache: host, background: false}"]) == short)
    }

    @Test func aliasesOfAliasesAreRefusedBeforeTheyFillTheMemory() throws {
        var text = "a0: &a0 x\n"
        for level in 1...40 {
            text += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1)]\n"
        }
        let error = try #require(throws: JobProblems.self) {
            _ = try JobLoader(
                file: "job.yaml", assignments: [], workers: nil, defaultWorkers: 1,
                checksPaths: false
            ).parse(text, in: JobDirectory(path: "/jobs"))
        }
        #expect(error.description.contains("more than 1000000 values"))
    }

    @Test func allMistakesAreReportedAtOnceInTheOrderOfTheFile() {
        let found = problems(
            """
            optimizer: {lr: fast, lr: -1, name: sgd, lr: 0.1}
            data: {format: mnist}
            cluster: {worker: 2}
            """, set: ["train.epochs=x", "model.name=nothing", "nonsense"])
        #expect(
            found.map { $0.prefix(while: { $0 != " " }) }.map(String.init) == [
                "job.yaml:1:23:", "job.yaml:1:42:", "job.yaml:2:7:", "job.yaml:3:11:", "--set",
                "--set", "--set",
            ], "\(found)")
    }

    @Test(arguments: [
        ("model: {a: [1, 2}\n", "job.yaml:1:17: the YAML cannot be read"),
        ("model: a: b\n", "job.yaml:1:9: the YAML cannot be read"),
        ("a: 1\n\tb: 2\n", "job.yaml:2:1: the YAML cannot be read"),
        ("", "job.yaml:1:1: found an empty file"),
        ("- a\n", "job.yaml:1:1: found a list of 1, expected a map of keys"),
        ("a: *b\n", "job.yaml:1:4: the YAML cannot be read: found undefined alias"),
    ])
    func brokenYAMLIsReportedWithItsPlace(text: String, expected: String) {
        let found = problems(text)
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix(expected) == true, "\(found)")
    }

    @Test func aDuplicateKeyIsReportedAtItsSecondPlaceAndDoesNotHideOthers() {
        let found = problems(
            text(replacing: "train", with: "train:\n  seed: 1\n  epochs: 2\n  seed: 2\n  x: 1"))
        #expect(found.count == 2)
        #expect(
            found.first?.hasPrefix("job.yaml:7:3: found 'seed' again, it is given in line 5")
                == true)
        #expect(found.last?.hasPrefix("job.yaml:8:3: found unknown key 'x' in train") == true)
    }

    @Test(arguments: ["async", "0", "3"])
    func stalenessIsANumberOrAsync(value: String) throws {
        let job = try load(text(), set: ["consistency.staleness=\(value)"])
        #expect("\(job.staleness)" == value)
    }

    @Test(arguments: [
        ("60s", Duration.seconds(60)), ("500ms", .milliseconds(500)), ("2m", .seconds(120)),
        ("1h", .seconds(3600)), ("7", .seconds(7)),
    ])
    func joinTimeoutHasAUnit(value: String, duration: Duration) throws {
        let job = try load(text(), set: ["cluster.join_timeout=\(value)"])
        #expect(job.cluster.joinTimeout == duration)
    }
}

@Suite struct JobOverrideTests {
    @Test func anyKeyCanBeSetAndALaterOneWins() throws {
        let job = try load(
            text(),
            set: [
                "model.layers.0.out=32", "optimizer.lr=1e-4", "optimizer.lr=2e-4",
                "optimizer.schedule.name=exponential", "optimizer.schedule.gamma=0.5",
                "data={format: synthetic, samples: 8, shape: [1, 4, 4], classes: 2}", "init=a=b",
            ])
        #expect(
            job.model
                == .layers(
                    ModelConfiguration(layers: [
                        LayerConfiguration(name: "linear0", kind: .linear(out: 32))
                    ])))
        #expect(job.optimizer.learningRate == 0.0002)
        #expect(job.optimizer.schedule == Schedule(.exponential(gamma: 0.5)))
        #expect(job.data.source == .synthetic(samples: 8, shape: [1, 4, 4], classes: 2, seed: 1))
        #expect(job.initialWeights == "/jobs/a=b")
    }

    @Test func nullTakesAKeyAway() throws {
        let job = try load(text(), set: ["train.epochs=null", "train.steps=5"])
        #expect(job.length == .steps(5))
    }

    @Test func aLengthByFlagTakesTheOtherOfTheFileAway() throws {
        #expect(try load(text(), set: ["train.steps=5"]).length == .steps(5))
        let stepped = text(replacing: "train", with: "train: {steps: 9}")
        #expect(try load(stepped, set: ["train.epochs=2"]).length == .epochs(2))
        #expect(throws: JobProblems.self) {
            try load(text(), set: ["train.steps=5", "train.epochs=2"])
        }
    }

    @Test func workersIsAnOverrideAndKeepersFollow() throws {
        let job = try load(text(replacing: "cluster", with: "cluster: {workers: 2}"), workers: 3)
        #expect(job.cluster.workers == 3)
        #expect(job.cluster.keepers == 3)
    }

    @Test(arguments: [
        ("optimizer.lr", "--set optimizer.lr: found no '='"),
        ("=3", "--set =3: found no '='"),
        ("optimizer..lr=3", "--set optimizer..lr=3: found an empty key"),
        ("optimizer.lr=0", "--set optimizer.lr=0: found the number 0"),
        ("optimizer.lr.x=0", "--set optimizer.lr.x=0: optimizer.lr is the number 0.1"),
        ("model.layers.1.out=0", "--set model.layers.1.out=0: found '1' after model.layers"),
        ("model.layers.x=0", "--set model.layers.x=0: found 'x' after model.layers"),
        ("cluster.worker=2", "--set cluster.worker=2: found unknown key 'worker'"),
        ("init=[a", "--set init=[a: '[a' is not a YAML value"),
    ])
    func aMistakeNamesTheFlag(assignment: String, expected: String) {
        let found = problems(text(), set: [assignment])
        #expect(found.count == 1)
        #expect(found.first?.hasPrefix(expected) == true, "\(found)")
    }
}

@Suite struct JobPrinterTests {
    @Test(arguments: [
        [],
        ["optimizer={name: adamw, betas: [0.8, 0.95], eps: 1e-9, lr: 3e-5, reduction: sum}"],
        ["optimizer={name: adagrad, lr_decay: 0.1, initial_accumulator_value: 0.5}"],
        ["optimizer={name: rmsprop, alpha: 0.5, centered: true, momentum: 0.1}"],
        ["optimizer={name: add, lr: 0.3}"],
        ["optimizer={name: sgd, momentum: 0.9, nesterov: true, weight_decay: 1e-4}"],
        [
            "optimizer.schedule={name: cosine, T_max: 77, eta_min: 0.0137, warmup: 5}",
            "optimizer.lr=0.7",
        ],
        ["optimizer.schedule={name: multistep, milestones: [1, 5], gamma: 0.3}"],
        ["optimizer.schedule={name: polynomial, total_iters: 12, power: 2}"],
        ["optimizer.schedule={name: step, step_size: 12}"],
        ["data={format: synthetic, samples: 64, features: 8, classes: 3, seed: 9}"],
        ["data={format: cifar10, path: '/a b/c: #d', shuffle: false, batch_size: 7}"],
        ["train={steps: 100, seed: 18446744073709551615}", "consistency.staleness=async"],
        [
            "cluster={workers: 4, keepers: 2, transport: shared-memory, port: 99, lanes: 3, join_timeout: 1500ms, reconnect_timeout: 2500ms, interface: '::1'}"
        ],
        ["cluster={workers: 2, tls: {certificate: a/b.pem, key: '../k y.pem', ca: /c.pem}}"],
        ["memory={parameter_cache: host, link: 12GB/s}"],
        ["init=w.safetensors", "output.directory=../runs/x"],
        ["model={name: lenet}"],
        [
            "model.layers=[{type: lrn, size: 4, alpha: 1e-3, beta: 0.6, k: 2}, {type: batch_norm, eps: 1e-7, momentum: 0.03, affine: false}, {type: batch_norm}]"
        ],
        [
            "model.layers=[{type: conv, out: 3, kernel: 5, stride: 2, pad: 1}, {type: dropout, p: 0.1}, {name: 'null', type: avgpool, kernel: 2}, {type: lstm, out: 4, steps: 3, keep: all}, {type: lstm, out: 5, steps: 3}, {name: 'a\"b\\c', type: relu}, {name: '3', type: linear, out: 2}]"
        ],
    ])
    func aPrintedJobIsReadBackEqual(assignments: [String]) throws {
        let job = try load(text(), set: assignments)
        let again = try JobLoader(
            file: "other.yaml", assignments: [], workers: nil, defaultWorkers: 7, checksPaths: false
        ).parse(job.yaml, in: JobDirectory(path: "/elsewhere"))
        #expect(again == job, "\(job.yaml)")
    }
}

@Suite struct JobDirectoryTests {
    @Test(arguments: [
        ("data", "/a/b/data"), ("./data/", "/a/b/data"), ("../data/x", "/a/data/x"),
        ("../../../x", "/x"), ("x/../y", "/a/b/x/../y"), ("/z", "/z"), ("..", "/a"), (".", "/a/b"),
    ])
    func pathsStartAtTheJobFile(path: String, expected: String) {
        #expect(JobDirectory(path: "/a/b").resolve(path) == expected)
    }

    @Test func aPathThatIsNotThereIsAProblemOfTheJob() {
        let loader = JobLoader(
            file: "job.yaml", assignments: [], workers: nil, defaultWorkers: 1, checksPaths: true)
        #expect {
            try loader.parse(text(), in: JobDirectory(path: "/nowhere"))
        } throws: {
            "\($0)".hasPrefix("job.yaml:2:29: found 'digits' for data.path")
                && "\($0)".hasSuffix("there is nothing at /nowhere/digits")
        }
    }
}

@Suite struct NearestNameTests {
    @Test(arguments: [
        ("weigth_decay", "weight_decay"), ("wd", "weight_decay"), ("learning_rate", "lr"),
        ("LR", "lr"), ("momentun", "momentum"), ("sched", "schedule"), ("batch", nil), ("x", nil),
    ])
    func aMistypedNameFindsItsKey(typed: String, expected: String?) {
        let keys = ["name", "lr", "momentum", "weight_decay", "schedule"]
        #expect(nearestName(to: typed, among: keys) == expected)
    }

    @Test(arguments: [
        ("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3),
    ])
    func theDistanceCountsEdits(a: String, b: String, distance: Int) {
        #expect(editDistance(a, b) == distance)
        #expect(editDistance(b, a) == distance)
    }
}
