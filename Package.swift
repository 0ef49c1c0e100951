// swift-tools-version: 6.2
import PackageDescription

// Kernels are always optimised, also under a debug build: the tests measure the code that ships.
// Contraction is off, so that a fused multiply-add happens exactly where the source says so.
let kernelSettings: [CSetting] = [
    .unsafeFlags(["-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"])
]

let package = Package(
    name: "geeps",
    products: [
        .library(name: "GeePS", targets: ["GeePS"]),
        .library(name: "GeePSNN", targets: ["GeePSNN"]),
        .library(name: "Safetensors", targets: ["Safetensors"]),
        .executable(name: "geeps", targets: ["GeePSCLI"]),
        // libGeePSABI.so; `make library` makes the self-contained libgeeps.so of it.
        .library(name: "GeePSABI", type: .dynamic, targets: ["GeePSABI"]),
        // For tests: an emulated libcuda.so.1.
        .library(name: "CUDALibrary", type: .dynamic, targets: ["CUDALibrary"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Cellar: C that Swift calls.
        .target(name: "CGeePSKernels", cSettings: kernelSettings),
        .target(name: "CGeePSShims", cSettings: [.define("_GNU_SOURCE")]),
        .systemLibrary(name: "CDNNL", providers: [.apt(["libdnnl-dev"])]),
        .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),

        // Rooms, bottom to top; an arrow that is not here does not compile.
        .target(name: "GeePSCore", dependencies: ["CGeePSShims"]),
        .target(name: "Safetensors"),
        .target(
            name: "GeePSDevice", dependencies: ["GeePSCore", "CGeePSKernels", "CGeePSShims"]),
        .target(name: "GeePSMemory", dependencies: ["GeePSCore", "GeePSDevice"]),
        .target(name: "GeePSClient", dependencies: ["GeePSCore", "GeePSDevice", "GeePSMemory"]),
        .target(name: "GeePSServer", dependencies: ["GeePSCore", "CGeePSKernels"]),
        .target(
            name: "GeePSCheckpoint",
            dependencies: ["GeePSCore", "GeePSServer", "Safetensors", "CGeePSShims"]),
        .target(name: "GeePSTransport", dependencies: ["GeePSCore", "CGeePSShims"]),
        .target(
            name: "GeePS",
            dependencies: [
                "GeePSCore", "GeePSDevice", "GeePSMemory", "GeePSClient", "GeePSServer",
                "GeePSTransport", "CGeePSShims",
            ]),
        .target(
            name: "GeePSNN",
            dependencies: [
                "GeePSCore", "GeePSDevice", "GeePSMemory", "GeePSClient", "Safetensors", "CDNNL",
                "CZlib", "CGeePSKernels", "CGeePSShims",
            ]),
        .target(name: "GeePSSimulation", dependencies: ["GeePSCore"]),

        // Doors.
        .target(name: "CGeePS"),
        .target(
            name: "GeePSABI",
            dependencies: ["GeePS", "GeePSTransport", "CGeePS"], exclude: ["libgeeps.map"]),
        .executableTarget(
            name: "GeePSCLI",
            dependencies: [
                "GeePS", "GeePSCore", "GeePSNN", "GeePSSimulation", "GeePSServer", "GeePSClient",
                "GeePSCheckpoint", "GeePSMemory", "GeePSDevice", "GeePSTransport", "Safetensors",
                "CGeePSKernels",
                "CGeePSShims",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Yams", package: "Yams"),
            ]),

        // What several test targets share.
        .target(name: "GeePSTestSupport", path: "Tests/Support"),
        .testTarget(name: "GeePSCoreTests", dependencies: ["GeePSCore"]),
        .testTarget(
            name: "SafetensorsTests", dependencies: ["Safetensors", "GeePSTestSupport"]),
        // CUDA's libraries without a GPU: the same functions over the host's memory, watched.
        // Optimised, as the kernels are: whole trainings run on it.
        .target(
            name: "CUDAEmulator",
            dependencies: ["GeePSDevice", "GeePSCore", "CGeePSShims", "CGeePSKernels"],
            path: "Tests/CUDAEmulator", swiftSettings: [.unsafeFlags(["-O"])]),
        // The same as a shared library with the symbols of libcuda.so.1, for tests of the Python package.
        .target(
            name: "CCUDALibrary", dependencies: ["CGeePSShims"], path: "Tests/CUDALibrary/C"),
        .target(
            name: "CUDALibrary", dependencies: ["CUDAEmulator", "CCUDALibrary"],
            path: "Tests/CUDALibrary/Swift"),
        .testTarget(
            name: "GeePSDeviceTests",
            dependencies: [
                "GeePSDevice", "GeePSCore", "CUDAEmulator", "CGeePSShims", "CGeePSKernels",
            ]),
        .testTarget(
            name: "GeePSMemoryTests",
            dependencies: ["GeePSMemory", "GeePSDevice", "GeePSCore", "CUDAEmulator"]),
        .testTarget(
            name: "GeePSClientTests",
            dependencies: [
                "GeePSClient", "GeePSServer", "GeePSTransport", "GeePSMemory", "GeePSDevice",
                "GeePSCore",
            ]),
        .testTarget(
            name: "GeePSServerTests",
            dependencies: ["GeePSServer", "GeePSCore", "CGeePSKernels", "GeePSTestSupport"]),
        .testTarget(
            name: "GeePSCheckpointTests",
            dependencies: ["GeePSCheckpoint", "GeePSServer", "GeePSCore", "Safetensors"]),
        .testTarget(
            name: "GeePSABITests",
            dependencies: [
                "GeePSABI", "CGeePS", "GeePSDevice", "CUDAEmulator", "CGeePSShims",
                "GeePSTestSupport",
            ]),
        .testTarget(name: "GeePSTransportTests", dependencies: ["GeePSTransport", "GeePSCore"]),
        .testTarget(
            name: "GeePSNNTests",
            dependencies: [
                "GeePSNN", "GeePSMemory", "GeePSCore", "GeePSDevice", "Safetensors", "CUDAEmulator",
                "CGeePSShims",
            ],
            exclude: ["Fixtures"]),
        .testTarget(
            name: "GeePSTests",
            dependencies: [
                "GeePS", "GeePSClient", "GeePSMemory", "GeePSDevice", "GeePSServer",
                "GeePSTransport",
                "GeePSCore", "CGeePSShims",
            ]),
        .testTarget(name: "GeePSSimulationTests", dependencies: ["GeePSSimulation", "GeePSCore"]),
        .testTarget(
            name: "GeePSCLITests",
            dependencies: [
                "GeePSCLI", "GeePSCore", "GeePSDevice", "GeePSMemory", "GeePSNN", "Safetensors",
                "GeePSTransport",
                "CUDAEmulator",
            ]),
        // Runs the program `geeps`; depends on it so that it is built.
        .testTarget(
            name: "GeePSSystemTests",
            dependencies: ["GeePSCLI", "GeePSCore", "Safetensors", "GeePSTestSupport"]),
    ]
)

for target in package.targets where target.type != .system && target.type != .plugin {
    let isC = target.name.hasPrefix("C") && target.name.hasPrefix("CGeePS")
    if isC { continue }
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
            .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
            .enableExperimentalFeature("Lifetimes"),
            .treatAllWarnings(as: .error),
        ]
}
