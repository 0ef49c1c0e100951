import GeePSCore
import Glibc
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

    @Test func itReturnsWhenHelpersAreDone() {
        let crew = Crew(helperCount: 1, name: "crew")
        defer { crew.close() }
        let caller = pthread_self()
        let signal = Signal()
        let begun = Mutex(0)
        let done = Mutex(0)
        crew.perform(count: 2) { _ in
            signal.withLock {
                begun.withLock { $0 += 1 }
                signal.wakeAll()
                while begun.withLock({ $0 < 2 }) { _ = signal.wait() }
            }
            // So that a caller who does not wait is ahead.
            if pthread_equal(pthread_self(), caller) == 0 { usleep(20_000) }
            done.withLock { $0 += 1 }
        }
        #expect(done.withLock { $0 } == 2)
    }

    @Test func aCrewWithoutWorkEnds() {
        Crew(helperCount: 2, name: "crew").close()
    }
}
