import Testing

@Suite struct GeePSNNTestsPlaceholder {}
