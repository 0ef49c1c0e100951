import Testing

@Suite struct GeePSClientTestsPlaceholder {}
