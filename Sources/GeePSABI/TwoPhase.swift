internal import CGeePS
internal import GeePS

/// Begins a two-phase clock.
@c @implementation
public func geeps_clock_begin(_ job: OpaquePointer!) -> Int32 {
    call(job) { (job) throws(ABIError) in
        guard job.held == nil else { throw .argument("geeps_clock_finish ends a clock first") }
        for table in job.tables.indices {
            _ = try job.settled(UInt32(table), for: "geeps_clock_begin")
        }
        job.held = try job.joined(for: "geeps_clock_begin").beginTwoPhaseClock()
    }
}

/// The norm of its gradients.
@c @implementation
public func geeps_gradient_norm(
    _ job: OpaquePointer!, _ norm: UnsafeMutablePointer<Double>!, _ timeout_s: Double
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_gradient_norm")
        guard let held = job.held else {
            throw .argument("geeps_gradient_norm comes after geeps_clock_begin")
        }
        let (norm, bound) = (try required(norm, "norm"), try duration(timeout_s))
        norm.pointee = try launching { () throws(LaunchError) in
            try node.gradientNorm(of: held, deadline: .after(bound))
        }
    }
}

/// Ends a two-phase clock.
@c @implementation
public func geeps_clock_finish(
    _ job: OpaquePointer!, _ gradient_scale: Double, _ discard: Int32
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_clock_finish")
        guard let held = job.held else {
            throw .argument("geeps_clock_finish comes after geeps_clock_begin")
        }
        // Keepers that go on before all gradients are in would step with those that come later.
        guard discard == 0 || held.isComplete(within: .zero) else {
            throw .argument(
                "gradients are dropped when all are there: geeps_gradient_norm comes first")
        }
        guard discard != 0 || gradient_scale.isFinite else {
            throw .argument("gradient scale \(gradient_scale), expected a finite number")
        }
        job.held = nil
        node.endTwoPhaseClock(scale: discard != 0 ? nil : Float(gradient_scale))
    }
}
