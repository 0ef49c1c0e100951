import Testing

@Suite struct GeePSServerTestsPlaceholder {}
