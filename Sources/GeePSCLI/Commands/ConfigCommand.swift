import ArgumentParser

/// `geeps config`; `geeps help config` shows the same list.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Lists the keys of a job file.",
        discussion: "KEYS, as --set takes them\n\n" + JobKey.text)

    @Flag(help: "As the tables of docs/job-file.md.")
    var markdown = false

    func run() { writeOutput(markdown ? JobKey.markdown : JobKey.text) }
}
