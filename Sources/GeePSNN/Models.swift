extension ModelConfiguration {
    /// LeNet-5 (LeCun and others, 1998) with relu and max pooling, for inputs of 8 x 8 or more.
    ///
    /// conv1 5 x 5 to 6 with padding 2, pooling 2, conv2 3 x 3 to 16 with padding 1, pooling 2, then linear
    /// 120, 84 and `classes`. The paddings keep sizes, so 8 x 8 digits and 28 x 28 MNIST both fit; the
    /// original has no padding at conv2 and a 5 x 5 kernel there.
    public static func lenet(classes: Int = 10) -> ModelConfiguration {
        let pooling = LayerKind.maxPooling(kernel: 2, stride: 2, padding: 0)
        return ModelConfiguration(layers: [
            LayerConfiguration(
                name: "conv1", kind: .convolution(out: 6, kernel: 5, stride: 1, padding: 2)),
            LayerConfiguration(name: "relu1", kind: .relu),
            LayerConfiguration(name: "pool1", kind: pooling),
            LayerConfiguration(
                name: "conv2", kind: .convolution(out: 16, kernel: 3, stride: 1, padding: 1)),
            LayerConfiguration(name: "relu2", kind: .relu),
            LayerConfiguration(name: "pool2", kind: pooling),
            LayerConfiguration(name: "fc1", kind: .linear(out: 120)),
            LayerConfiguration(name: "relu3", kind: .relu),
            LayerConfiguration(name: "fc2", kind: .linear(out: 84)),
            LayerConfiguration(name: "relu4", kind: .relu),
            LayerConfiguration(name: "fc3", kind: .linear(out: classes)),
        ])
    }

    /// Linear layers of `hidden` widths with relu between, then one to `classes`: `fc1`, `relu1`, `fc2`, ...
    public static func mlp(hidden: [Int], classes: Int = 10) -> ModelConfiguration {
        var layers: [LayerConfiguration] = []
        for (index, width) in hidden.enumerated() {
            layers.append(LayerConfiguration(name: "fc\(index + 1)", kind: .linear(out: width)))
            layers.append(LayerConfiguration(name: "relu\(index + 1)", kind: .relu))
        }
        layers.append(
            LayerConfiguration(name: "fc\(hidden.count + 1)", kind: .linear(out: classes)))
        return ModelConfiguration(layers: layers)
    }
}
