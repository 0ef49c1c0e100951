public import CGeePS
internal import GeePS

/// Sets a learning rate.
@c @implementation
public func geeps_set_learning_rate(
    _ job: OpaquePointer!, _ table: UInt32, _ learning_rate: Double
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_set_learning_rate")
        guard learning_rate.isFinite else {
            throw .argument("learning rate \(learning_rate), expected a finite number")
        }
        try job.table(table).rates.set(learning_rate, from: node.client.tick.next.count)
    }
}

/// Changes a rule's numbers.
@c @implementation
public func geeps_set_rule(
    _ job: OpaquePointer!, _ table: UInt32, _ rule: UnsafePointer<geeps_rule>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let old = try job.table(table)
        let rule = try OptimizerConfiguration(try required(rule, "rule").pointee)
        guard rule.isOfKind(of: old.rule),
            Node.stateNames(of: rule) == Node.stateNames(of: old.rule)
        else {
            throw .argument(
                "table \(old.name) has rule \(old.rule.rule); \(rule.rule) needs other state")
        }
        let node = try job.settled(table, for: "geeps_set_rule")
        node.setRule(rule, of: Int(table))
        job.setRule(rule, of: table)
        old.rates.set(rule.learningRate, from: node.client.tick.next.count)
    }
}

/// Counts state arrays.
@c @implementation
public func geeps_state_count(
    _ job: OpaquePointer!, _ table: UInt32, _ count: UnsafeMutablePointer<Int>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        try required(count, "count").pointee = try job.table(table).stateNames.count
    }
}

/// Names a state array.
@c @implementation
public func geeps_state_name(
    _ job: OpaquePointer!, _ table: UInt32, _ kind: Int,
    _ name: UnsafeMutablePointer<UnsafePointer<CChar>?>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let table = try job.table(table)
        try checkKind(kind, of: table)
        try required(name, "name").pointee = UnsafePointer(table.stateNames[kind].text)
    }
}

/// Copies a state array out.
@c @implementation
public func geeps_state_read(
    _ job: OpaquePointer!, _ table: UInt32, _ kind: Int, _ values: UnsafeMutablePointer<Float>!,
    _ count: UInt64, _ steps: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let layout = try job.table(table)
        try checkKind(kind, of: layout)
        let target = UnsafeMutableBufferPointer(mutating: try whole(layout, values, count))
        let node = try job.settled(table, for: "geeps_state_read")
        let done = try launching { () throws(LaunchError) in
            try node.state(
                kind, of: Int(table), into: target, deadline: .after(collectiveTimeout))
        }
        steps?.pointee = done
    }
}

/// Copies a state array in.
@c @implementation
public func geeps_state_write(
    _ job: OpaquePointer!, _ table: UInt32, _ kind: Int, _ values: UnsafePointer<Float>!,
    _ count: UInt64, _ steps: UInt64
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let layout = try job.table(table)
        try checkKind(kind, of: layout)
        let source = try whole(layout, values, count)
        let node = try job.settled(table, for: "geeps_state_write")
        node.setState(kind, of: Int(table), to: source, steps: steps)
    }
}

/// Sets values at the keepers.
@c @implementation
public func geeps_write(
    _ job: OpaquePointer!, _ table: UInt32, _ values: UnsafePointer<Float>!, _ count: UInt64
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let source = try whole(try job.table(table), values, count)
        let node = try job.settled(table, for: "geeps_write")
        node.setRows(of: Int(table), to: source)
    }
}

/// How long the others may take to come to a collective that has no bound of its own.
private let collectiveTimeout = Duration.seconds(120)

private func checkKind(_ kind: Int, of table: Job.Table) throws(ABIError) {
    guard table.stateNames.indices.contains(kind) else {
        throw .argument(
            "state \(kind) of table \(table.name), which has \(table.stateNames.count)")
    }
}
