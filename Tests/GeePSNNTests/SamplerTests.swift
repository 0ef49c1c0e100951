import Testing

@testable import GeePSNN

@Suite struct SamplerTests {
    @Test(arguments: [1, 2, 3, 4], [nil, 7] as [UInt64?])
    func manyWorkersSeeWhatOneWithALargeBatchSees(_ workers: Int, _ seed: UInt64?) throws {
        let total = 103
        var many = try Sampler(
            sampleCount: total, workerCount: workers, batchSize: 6, shuffleSeed: seed)
        var one = try Sampler(
            sampleCount: total, workerCount: 1, batchSize: 6 * workers, shuffleSeed: seed)
        #expect(many.stepsPerEpoch == total / (6 * workers))
        for epoch in 0..<3 {
            var seen: Set<Int> = []
            for stepInEpoch in 0..<many.stepsPerEpoch {
                let step = UInt64(epoch * many.stepsPerEpoch + stepInEpoch)
                let together = (0..<workers).flatMap { many.indices(step: step, rank: $0) }
                #expect(together == one.indices(step: step, rank: 0))
                for index in together {
                    #expect(0..<total ~= index)
                    #expect(seen.insert(index).inserted, "sample \(index) twice in epoch \(epoch)")
                }
            }
            #expect(seen.count == many.stepsPerEpoch * 6 * workers)
        }
    }

    @Test func withoutASeedTheOrderIsTheDataSets() throws {
        var sampler = try Sampler(
            sampleCount: 10, workerCount: 2, batchSize: 2, shuffleSeed: nil)
        #expect(sampler.indices(step: 1, rank: 1) == [6, 7])
        // Samples 8 and 9 make no whole step; the next epoch begins anew.
        #expect(sampler.indices(step: 2, rank: 0) == [0, 1])
    }

    @Test func everyEpochAndSeedHasItsOwnOrderAndAnyStepIsHadDirectly() throws {
        func epoch(_ number: UInt64, seed: UInt64) throws -> [Int] {
            var sampler = try Sampler(
                sampleCount: 50, workerCount: 1, batchSize: 50, shuffleSeed: seed)
            return sampler.indices(step: number, rank: 0)
        }
        #expect(try epoch(0, seed: 1) == epoch(0, seed: 1))
        #expect(try epoch(0, seed: 1) != epoch(1, seed: 1))
        #expect(try epoch(0, seed: 1) != epoch(0, seed: 2))
        #expect(try epoch(5, seed: 1).sorted() == Array(0..<50))
        var walked = try Sampler(sampleCount: 50, workerCount: 1, batchSize: 50, shuffleSeed: 1)
        for step: UInt64 in [3, 0, 5, 1] {
            #expect(try walked.indices(step: step, rank: 0) == epoch(step, seed: 1))
        }
    }

    @Test func theDataSetMustHoldOneStep() throws {
        #expect(
            try Sampler(sampleCount: 12, workerCount: 3, batchSize: 4, shuffleSeed: 1).stepsPerEpoch
                == 1)
        let error = #expect(throws: NNError.self) {
            try Sampler(sampleCount: 11, workerCount: 3, batchSize: 4, shuffleSeed: 1)
        }
        #expect(error?.code == .data)
        #expect(error?.message.contains("3 workers x 4 samples, but the data set has 11") == true)
        #expect(error?.message.contains("a batch of 3 would fit") == true)
        #expect(throws: NNError.self) {
            try Sampler(sampleCount: 11, workerCount: 1 << 40, batchSize: 1 << 40, shuffleSeed: 1)
        }
    }
}
