import Testing

@Suite struct GeePSMemoryTestsPlaceholder {}
