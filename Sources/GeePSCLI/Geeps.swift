import ArgumentParser

/// The door to the shell.
///
/// The entry is not the command itself, so that every error passes `ErrorReport`.
@main
enum Geeps {
    static func main() {
        do {
            try refuseUnknownCommand(
                Array(CommandLine.arguments.dropFirst()), of: GeepsCommand.self)
            var command = try GeepsCommand.parseAsRoot()
            try command.run()
        } catch {
            ErrorReport.end(with: error)
        }
    }
}

/// `geeps`.
struct GeepsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "geeps",
        abstract: "Trains deep networks data-parallel over a parameter server.",
        discussion: """
            EXAMPLES
              geeps train Examples/digits.yaml
              geeps train Examples/digits.yaml --workers 3 --set optimizer.lr=0.05
              geeps run --nproc 2 -- python train.py
              geeps config                  the keys of a job file
              geeps plan Examples/budget.yaml --budget 50%
              geeps bench layers Examples/digits.yaml && geeps plan Examples/digits.yaml --link 12GB/s
              geeps simulate --seeds 1000
              geeps bench exchange --bytes 4200000
              geeps why                     who waits for whom in a running job
              geeps doctor
              geeps selftest --device cuda

            EXIT CODES
               0  ok                       73  cannot create or open a file
              64  wrong command line       74  input or output failed
              65  wrong job or data        75  stopped early, run again to continue
              69  peer or device missing   77  not permitted
              70  internal error           128 + n  ended by signal n
            """,
        version: "0.1.0",
        subcommands: [
            TrainCommand.self, RunCommand.self, CheckpointCommand.self, PlanCommand.self,
            ConfigCommand.self, SimulateCommand.self, BenchCommand.self, ReplayCommand.self,
            WhyCommand.self, DoctorCommand.self, TLSCommand.self, SelfTestCommand.self,
            KernelsCommand.self,
        ])
}

/// Says which commands there are when `arguments` begin with another word: the argument parser says only that the
/// word is unexpected.
///
/// - Throws: `CLIError` (usage).
func refuseUnknownCommand(_ arguments: [String], of parent: any ParsableCommand.Type)
    throws(CLIError)
{
    let commands = parent.configuration.subcommands
    guard let word = arguments.first, !word.hasPrefix("-"), !commands.isEmpty else { return }
    let names = commands.map { $0.configuration.commandName ?? "" }
    if let index = names.firstIndex(of: word) {
        return try refuseUnknownCommand(Array(arguments.dropFirst()), of: commands[index])
    }
    guard word != "help" else { return }
    let isJob = word.hasSuffix(".yaml") || word.hasSuffix(".yml")
    throw CLIError(
        .usage,
        "found unknown command '\(word)', expected one of \(names.joined(separator: ", "))"
            + (isJob ? " (did you mean 'train \(word)'?)" : suggestion(for: word, among: names)))
}
