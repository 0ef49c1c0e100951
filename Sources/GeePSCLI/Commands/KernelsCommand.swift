import ArgumentParser
import GeePSDevice

/// `geeps kernels`.
struct KernelsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels",
        abstract: "Compiles the kernels for GPUs into a directory; needs NVRTC, but no GPU.",
        discussion: """
            A GPU's kernels are compiled when they are first needed, and kept in GEEPS_CACHE_DIR, or \
            $XDG_CACHE_HOME/geeps, or ~/.cache/geeps. With the files of this command there, or in \
            ../share/geeps/kernels beside the program, a machine needs no compiler.

            EXAMPLES
              geeps kernels --output share/geeps/kernels
              geeps kernels --output ~/.cache/geeps --architecture sm_90
            """)

    @Option(help: ArgumentHelp("Where the files go.", valueName: "directory"))
    var output: String

    @Option(
        name: .customLong("architecture"), parsing: .singleValue,
        help: ArgumentHelp(
            "An architecture, such as sm_90; may be given several times. (default: sm_80, sm_90, sm_100)",
            valueName: "name"))
    var architectures: [String] = []

    func run() throws {
        let compiler = try CUDACompiler.load()
        for architecture in architectures.isEmpty ? ["sm_80", "sm_90", "sm_100"] : architectures {
            let image = try compiler.compile(architecture: architecture)
            let name = KernelCache.fileName(
                source: CUDACompiler.source, architecture: architecture)
            guard KernelCache.write(image, to: "\(output)/\(name)", directory: output) else {
                throw CLIError(.cannotOpen, "cannot write \(output)/\(name): \(lastError())")
            }
            writeOutput("\(output)/\(name): \(image.count) bytes by NVRTC \(compiler.version)\n")
        }
    }
}
