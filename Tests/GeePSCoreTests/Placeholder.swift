import Testing

@Suite struct GeePSCoreTestsPlaceholder {}
