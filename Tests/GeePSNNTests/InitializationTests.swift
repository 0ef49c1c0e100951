import Testing

@testable import GeePSNN

@Suite struct InitializationTests {
    private func values(_ layer: LayerParameters, seed: UInt64) -> [Float] {
        var values = [Float](repeating: 9, count: layer.valueCount)
        Initializer.fill(&values, for: layer, seed: seed)
        return values
    }

    @Test(arguments: [[40, 25], [8, 5, 3, 3]])
    func valuesFillPyTorchsIntervalEvenly(_ weight: [Int]) {
        let layer = LayerParameters(
            name: "l", position: 0, weight: weight, outputCount: weight[0])
        let bound = 1 / Float(weight.dropFirst().reduce(1, *)).squareRoot()
        for tensor in layer.tensors {
            let values = values(layer, seed: 3)[tensor.range]
            #expect(values.allSatisfy { abs($0) <= bound })
            let expected = Double(bound * bound) / 3
            let variance = values.reduce(0.0) { $0 + Double($1 * $1) } / Double(values.count)
            if values.count > 300 { #expect(abs(variance / expected - 1) < 0.15) }
            #expect(values.contains { $0 > 0 } && values.contains { $0 < 0 })
        }
    }

    @Test func everySeedLayerAndTensorHasItsOwnValues() {
        let a = LayerParameters(name: "a", position: 0, weight: [4, 4], outputCount: 4)
        var b = a
        b.position = 1
        #expect(values(a, seed: 1) == values(a, seed: 1))
        #expect(values(a, seed: 1) != values(a, seed: 2))
        #expect(values(a, seed: 1) != values(b, seed: 1))
        let all = values(a, seed: 1)
        #expect(Array(all[0..<4]) != Array(all[16..<20]))
    }

    @Test func aRandomNumberBelowABoundIsUniform() {
        var random = SplitMix64(key: 1)
        var counts = [Int](repeating: 0, count: 6)
        for _ in 0..<60_000 { counts[Int(random.below(6))] += 1 }
        #expect(counts.allSatisfy { (9_500...10_500).contains($0) })
        #expect(random.below(1) == 0)
    }

    /// The first values of the published generator (seed 1234567), so that streams never change.
    @Test func theGeneratorIsSplitMix64() {
        var random = SplitMix64(key: 1_234_567)
        let expected: [UInt64] = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        #expect(expected == [random.next(), random.next()])
        #expect(expected == [SplitMix64.value(1_234_567, 0), SplitMix64.value(1_234_567, 1)])
    }
}
