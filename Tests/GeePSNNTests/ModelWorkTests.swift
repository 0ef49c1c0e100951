import GeePSNN
import Testing

@Suite struct ModelWorkTests {
    @Test func connectionsOfLinearLayersAreTheirWeights() {
        let model = ModelConfiguration.mlp(hidden: [2048, 2048])
        #expect(
            model.multiplyAdds(input: Shape(channels: 1024))
                == 1024 * 2048 + 2048 * 2048 + 2048 * 10)
    }

    @Test func connectionsOfConvolutionsAreWeightsTimesPlaces() {
        // conv1 6x5x5 on 28x28, pooled to 14x14, conv2 16x6x3x3, pooled to 7x7, then 784-120-84-10.
        let sum = ModelConfiguration.lenet().multiplyAdds(
            input: Shape(channels: 1, height: 28, width: 28))
        let convolutions = 28 * 28 * 6 * 25 + 14 * 14 * 16 * 6 * 9
        #expect(sum == convolutions + 784 * 120 + 120 * 84 + 84 * 10)
    }
}
