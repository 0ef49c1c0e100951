import Testing

@Suite struct GeePSTransportTestsPlaceholder {}
