import CUDAEmulator
import GeePSDevice
import GeePSNN
import Testing

@testable import GeePSCLI

/// `geeps selftest` with a GPU: the emulated driver, cuBLAS and cuDNN, which must have nothing to find.
@Suite struct SelfTestTests {
    @Test(arguments: ["device", "layers", "memory"])
    func everyCaseHoldsOnAGPU(_ suite: String) throws {
        // Trainings under budgets take minutes on one core, and `CUDATrainingTests` has shorter ones.
        let cases = SelfTest.cases.filter { $0.suite == suite && !$0.name.contains("budget") }
        #expect(!cases.isEmpty)
        let findings = try CUDAEmulator.findings { emulator in
            let gpu = try emulator.makeDevice(limitBytes: 16 << 20)
            let compute = try CUDASource(emulator).compute(
                try gpu.makeCUDAStream(name: "compute"), .float32)
            let outcomes = SelfTest.run(cases, on: SelfTestBench(gpu, compute)) { _ in }
            for outcome in outcomes {
                #expect(outcome.failure == nil, "\(outcome.name)")
            }
        }
        #expect(findings == [])
    }
}
