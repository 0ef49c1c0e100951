import Testing

@Suite struct GeePSSimulationTestsPlaceholder {}
