/// Runs the simulations that `options` asks for and prints what they found.
///
/// - Throws: `CLIError` naming the first seed whose checks failed.
func runSimulation(_ options: SimulationOptions) throws {
    throw CLIError(.internalError, "the simulation is not composed")
}
