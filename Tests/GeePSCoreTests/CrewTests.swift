import GeePSCore
import Synchronization
import Testing

/// Helpers with work in many parts.
@Suite struct CrewTests {
    @Test(arguments: [0, 1, 3]) func everyPartIsDoneOnceBeforeItReturns(helpers: Int) {
        let crew = Crew(helperCount: helpers, name: "crew")
        defer { crew.close() }
        for round in 0..<200 {
            let count = round % 9
            let done = Mutex([Int](repeating: 0, count: count))
            crew.perform(count: count) { index in done.withLock { $0[index] += 1 } }
            #expect(done.withLock { $0 } == Array(repeating: 1, count: count))
        }
    }

    @Test func helpersTakePart() {
        let crew = Crew(helperCount: 2, name: "crew")
        defer { crew.close() }
        // Each part waits for all of them, so each needs a thread of its own.
        let signal = Signal()
        let here = Mutex(0)
        crew.perform(count: 3) { _ in
            signal.withLock {
                here.withLock { $0 += 1 }
                signal.wakeAll()
                while here.withLock({ $0 < 3 }) { _ = signal.wait() }
            }
        }
        #expect(here.withLock { $0 } == 3)
    }

    @Test func aCrewWithoutWorkEnds() {
        Crew(helperCount: 2, name: "crew").close()
    }
}
