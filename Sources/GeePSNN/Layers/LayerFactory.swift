/// Makes the layers of one target.
protocol LayerFactory {
    /// Fully connected, to `out` values.
    func linear(_ site: LayerSite, out: Int) throws(NNError) -> any Layer
    /// To `out` channels.
    func convolution(_ site: LayerSite, out: Int, window: Window) throws(NNError) -> any Layer
    /// Maximum or mean of a window.
    func pooling(_ site: LayerSite, _ kind: PoolingKind, window: Window) throws(NNError)
        -> any Layer
    /// A function of each value.
    func activation(_ site: LayerSite, _ function: ActivationFunction) throws(NNError) -> any Layer
    /// Zeroes values at random.
    func dropout(_ site: LayerSite, probability: Double) throws(NNError) -> any Layer
    /// Divides values by a power of the squares around them.
    func response(_ site: LayerSite, _ rule: ResponseRule) throws(NNError) -> any Layer
    /// Gives channels mean 0 and variance 1.
    func batchNormalisation(_ site: LayerSite, _ rule: BatchRule) throws(NNError) -> any Layer
    /// Recurrent, over a batch of sequences.
    func lstm(_ site: LayerSite, _ sizes: LSTMSizes, keeps: KeptSteps) throws(NNError) -> any Layer
}

/// What a pooling makes of a window.
enum PoolingKind { case maximum, average }

/// A function whose derivative is a function of its result.
enum ActivationFunction { case relu, tanh, sigmoid }

/// Layers on oneDNN and kernels of our own.
struct HostLayers: LayerFactory {
    func linear(_ site: LayerSite, out: Int) throws(NNError) -> any Layer {
        try LinearLayer(site, out: out)
    }

    func convolution(_ site: LayerSite, out: Int, window: Window) throws(NNError) -> any Layer {
        try ConvolutionLayer(site, out: out, window: window)
    }

    func pooling(
        _ site: LayerSite, _ kind: PoolingKind, window: Window
    ) throws(NNError) -> any Layer {
        try PoolingLayer(site, kind, window: window)
    }

    func activation(
        _ site: LayerSite, _ function: ActivationFunction
    ) throws(NNError) -> any Layer {
        try ActivationLayer(site, function)
    }

    func dropout(_ site: LayerSite, probability: Double) throws(NNError) -> any Layer {
        try DropoutLayer(site, probability: probability)
    }

    func response(_ site: LayerSite, _ rule: ResponseRule) throws(NNError) -> any Layer {
        ResponseLayer(site, rule)
    }

    func batchNormalisation(_ site: LayerSite, _ rule: BatchRule) throws(NNError) -> any Layer {
        try BatchNormalisationLayer(site, rule)
    }

    func lstm(
        _ site: LayerSite, _ sizes: LSTMSizes, keeps: KeptSteps
    ) throws(NNError) -> any Layer {
        LSTMLayer(site, HostLSTM(layer: site.name, sizes: sizes), keeps: keeps)
    }
}
