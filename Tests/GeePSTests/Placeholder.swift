import Testing

@Suite struct GeePSTestsPlaceholder {}
