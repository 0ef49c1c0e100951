import Testing

@testable import GeePSSimulation

@Suite struct EventQueueTests {
    @Test func earliestComesFirstAndTiesKeepTheirOrder() throws {
        var random = SplitMix64(seed: 1)
        var queue = EventQueue()
        for frame in 0..<500 {
            queue.schedule(at: random.below(20), .deliver(frame: frame))
        }
        var last: (time: UInt64, frame: Int) = (0, -1)
        var count = 0
        while let event = queue.popFirst() {
            guard case .deliver(let frame) = event.action else { continue }
            #expect((last.time, last.frame) < (event.time, frame))
            last = (event.time, frame)
            count += 1
        }
        #expect(count == 500)
        #expect(queue.isEmpty)
    }
}

@Suite struct ContentsTests {
    @Test func sumIsTheSumOfItsContributions() {
        var total: UInt64 = 0
        for tick in UInt64(1)...20 {
            total &+= contribution(worker: 2, block: 3, tick: tick, generation: 1)
            #expect(total == sum(worker: 2, block: 3, upTo: tick, generation: 1))
            #expect(total & 0xffff == tick)
        }
    }

    @Test func repeatedTickIsSeenInTheSum() {
        let value = { contribution(worker: 0, block: 0, tick: $0, generation: 0) }
        #expect(value(1) &+ value(1) != sum(worker: 0, block: 0, upTo: 2, generation: 0))
        #expect(value(1) &+ value(3) != sum(worker: 0, block: 0, upTo: 2, generation: 0))
    }

    @Test func generationIsSeenInTheSum() {
        #expect(
            contribution(worker: 1, block: 1, tick: 4, generation: 0)
                != contribution(worker: 1, block: 1, tick: 4, generation: 1))
    }
}

@Suite struct SplitMix64Tests {
    /// The first numbers of the published generator for seed 1234567.
    @Test func numbersAreThePublishedOnes() {
        var random = SplitMix64(seed: 1_234_567)
        #expect(random.next() == 6_457_827_717_110_365_317)
        #expect(random.next() == 3_203_168_211_198_807_973)
        #expect(random.next() == 9_817_491_932_198_370_423)
    }

    @Test func numbersStayBelowTheirBound() {
        var random = SplitMix64(seed: 3)
        var isSeen = [Bool](repeating: false, count: 7)
        for _ in 0..<200 { isSeen[random.index(below: 7)] = true }
        #expect(isSeen == [Bool](repeating: true, count: 7))
        #expect(random.below(1) == 0)
        #expect(random.integer(4, 4) == 4)
    }
}
