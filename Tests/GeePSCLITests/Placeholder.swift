import Testing

@Suite struct GeePSCLITestsPlaceholder {}
