import GeePSCore
import Testing

@testable import GeePS

@Suite struct PulseTests {
    /// One turn of a control thread whose peer was last heard eight seconds ago, silence being five.
    private func isSilent(sleptSeconds: UInt64) throws -> Bool {
        let (near, far) = try ControlSocket.pair()
        let link = ControlSession(
            ControlLink(near, sender: 0, peer: "peer", payloadLimit: 100), identity: 0)
        var pulse = Pulse(ControlSettings(), counters: CounterBox())
        let second: UInt64 = 1_000_000_000
        let now = monotonicNanoseconds()
        link.lastHeard = now - 8 * second
        // Something was due when the thread went to sleep, and it woke this much later.
        let due = now - sleptSeconds * second
        pulse.wait(
            [link], watched: sleptSeconds > 0 ? [link] : [], waker: try WakePipe(), expiry: due)
        withExtendedLifetime(far) {}
        return pulse.silence(of: link, now: monotonicNanoseconds()) != nil
    }

    @Test func aSilentPeerIsSilent() throws { #expect(try isSilent(sleptSeconds: 0)) }

    @Test func timeInWhichThisProcessWasStoppedDoesNotCount() throws {
        #expect(try !isSilent(sleptSeconds: 6))
    }
}
