import GeePSMemory

/// Random numbers from a seed (Steele, Lea, Flood 2014).
struct PlanRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ count: Int) -> Int { Int(next() % UInt64(count)) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

/// Makes problems from seeds: layered networks, and iterations without any shape.
enum PlanGenerator {
    static func problem(seed: UInt64) -> PlanProblem {
        var random = PlanRandom(seed: seed)
        var problem = random.chance(50) ? network(&random) : shapeless(&random)
        if random.chance(30) { problem.fixedBytes = 1000 + random.below(5000) }
        // Planning by time takes ten times as long.
        if random.chance(10) {
            let phases = phaseCount(problem)
            problem.phaseNanoseconds = (0..<phases).map { _ in UInt64(1 + random.below(2000)) }
            problem.link = PlanLink(bytesPerSecondIn: 3e9, bytesPerSecondOut: 2e9)
        }
        return problem
    }

    /// The same, with local data that may be left with the caller, and sometimes updates that need no room.
    static func leavingProblem(seed: UInt64) -> PlanProblem {
        var problem = problem(seed: seed)
        var random = PlanRandom(seed: seed ^ 0x5eed)
        for index in problem.locals.indices { problem.locals[index].mayBeLeft = random.chance(70) }
        problem.updatesNeedRoom = random.chance(50)
        return problem
    }

    static func phaseCount(_ problem: PlanProblem) -> Int {
        var phases = 1
        var wasRelease = false
        for access in problem.accesses {
            switch access.kind {
            case .read, .update, .local:
                if wasRelease { phases += 1 }
                wasRelease = false
            case .endRead, .endUpdate, .endLocal: wasRelease = true
            case .clock: break
            }
        }
        return phases
    }

    /// Forward and backward over layers with parameters, activations, gradients and momentum.
    private static func network(_ random: inout PlanRandom) -> PlanProblem {
        let batchesPerClock = random.chance(60) ? 1 : 2 + random.below(3)
        let depth = 1 + random.below(9) / batchesPerClock
        var net = NetworkSketch()
        var sizes: [Int] = []
        for _ in 0...depth { sizes.append(1 + random.below(4000)) }
        let parameters = (0..<depth).map { _ in random.chance(70) ? 1 + random.below(6000) : 0 }
        let hasMomentum = random.chance(50)
        net.build(
            activations: sizes, parameters: parameters, hasMomentum: hasMomentum,
            readsAreRuns: random.chance(70), batchesPerClock: batchesPerClock)
        return net.problem
    }

    /// Accesses in any order that pair up; holders may overlap.
    private static func shapeless(_ random: inout PlanRandom) -> PlanProblem {
        let locals = (0..<(1 + random.below(7))).map {
            PlanProblem.Local(name: "local\($0)", byteCount: random.below(3000))
        }
        let tables = (0..<(1 + random.below(3))).map {
            PlanProblem.Table(name: "table\($0)", cacheBytes: 1 + random.below(4000))
        }
        let batches = (0..<(1 + random.below(4))).map { _ in
            let table = random.below(tables.count)
            let bytes = tables[table].cacheBytes
            return PlanProblem.Batch(
                table: table, byteCount: random.chance(40) ? bytes : 1 + random.below(bytes),
                isRun: random.chance(60))
        }
        var open: [Access] = []
        var accesses: [Access] = []
        for _ in 0..<(2 + random.below(50)) {
            if !open.isEmpty, random.chance(50) {
                var ending = open.remove(at: random.below(open.count))
                if ending.kind == .endLocal { ending.matters = random.chance(60) }
                accesses.append(ending)
                continue
            }
            let kind = random.below(4)
            if kind < 2 {
                let id = random.below(locals.count)
                accesses.append(Access(.local, batch: id, matters: random.chance(60)))
                open.append(Access(.endLocal, batch: id))
            } else {
                let id = random.below(batches.count)
                accesses.append(Access(kind == 2 ? .read : .update, batch: id))
                open.append(Access(kind == 2 ? .endRead : .endUpdate, batch: id))
            }
        }
        accesses += open + [Access(.clock)]
        return PlanProblem(
            accesses: accesses, locals: locals, batches: batches, tables: tables)
    }
}

/// Records a chain of layers as a trainer does.
struct NetworkSketch {
    var problem = PlanProblem(accesses: [], locals: [], batches: [], tables: [])

    /// Activation n is the input of layer n; a layer with zero parameter bytes has no table.
    mutating func build(
        activations: [Int], parameters: [Int], hasMomentum: Bool, readsAreRuns: Bool = true,
        batchesPerClock: Int = 1
    ) {
        let depth = parameters.count
        let outputs = activations.enumerated().map { local("activation\($0.offset)", $0.element) }
        let gradients = activations.enumerated().map { local("gradient\($0.offset)", $0.element) }
        var batchOfLayer: [Int?] = []
        var momentum: [Int?] = []
        for (layer, bytes) in parameters.enumerated() {
            batchOfLayer.append(bytes > 0 ? table("layer\(layer)", bytes, readsAreRuns) : nil)
            momentum.append(
                hasMomentum && bytes > 0 ? local("momentum\(layer)", bytes) : nil)
        }
        defer {
            let once = problem.accesses
            for _ in 1..<batchesPerClock { problem.accesses += once }
            problem.accesses.append(Access(.clock))
        }
        step([(outputs[0], false, true)], read: nil, update: nil)
        for layer in 0..<depth {
            step(
                [(outputs[layer], true, true), (outputs[layer + 1], false, true)],
                read: batchOfLayer[layer], update: nil)
        }
        step(
            [(outputs[depth], true, false), (gradients[depth], false, true)], read: nil,
            update: nil)
        for layer in (0..<depth).reversed() {
            var uses = [(gradients[layer + 1], true, false), (outputs[layer], true, false)]
            if layer > 0 { uses.append((gradients[layer], false, true)) }
            if let momentum = momentum[layer] { uses.append((momentum, true, true)) }
            step(uses, read: batchOfLayer[layer], update: batchOfLayer[layer])
        }
    }

    mutating func local(_ name: String, _ bytes: Int) -> Int {
        problem.locals.append(PlanProblem.Local(name: name, byteCount: bytes))
        return problem.locals.count - 1
    }

    mutating func table(_ name: String, _ bytes: Int, _ isRun: Bool = true) -> Int {
        problem.tables.append(PlanProblem.Table(name: name, cacheBytes: bytes))
        problem.batches.append(
            PlanProblem.Batch(table: problem.tables.count - 1, byteCount: bytes, isRun: isRun))
        return problem.batches.count - 1
    }

    /// - Parameter uses: local batch, fetch, keep.
    mutating func step(_ uses: [(Int, Bool, Bool)], read: Int?, update: Int?) {
        for use in uses {
            problem.accesses.append(Access(.local, batch: use.0, matters: use.1))
        }
        if let read { problem.accesses.append(Access(.read, batch: read)) }
        if let update {
            problem.accesses.append(Access(.update, batch: update))
            problem.accesses.append(Access(.endUpdate, batch: update))
        }
        if let read { problem.accesses.append(Access(.endRead, batch: read)) }
        for use in uses {
            problem.accesses.append(Access(.endLocal, batch: use.0, matters: use.2))
        }
    }
}
