import ArgumentParser
import GeePSCore
import GeePSDevice
import GeePSServer
import Glibc

/// `geeps bench kernels`: what one core does with rows and optimisers.
struct KernelBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernels",
        abstract: "Times gather, scatter-add and optimiser steps on one core, beside a copy.")

    @Option(help: "Rounds; the kernels take turns in each.")
    var rounds = 15

    func run() throws {
        var lines: [JSONValue.Member] = []
        lines.append(.init(key: "schema", value: .string("geeps.bench.kernels/1")))
        lines.append(.init(key: "instruction_set", value: .string(Kernels.instructionSet)))
        rows(&lines)
        for rule in [BenchRule.sgd, .adamw] { optimizer(rule, &lines) }
        writeOutput(JSONValue.object(lines).text + "\n")
    }

    /// 64 Ki random rows of 128 floats, as GeePS's batches are (33.5 MB each way).
    private func rows(_ lines: inout [JSONValue.Member]) {
        let (rowCount, width) = (65_536, 128)
        let source = values(rowCount * width)
        let target = values(rowCount * width)
        var random = SystemRandomNumberGenerator()
        let order = (0..<rowCount).map { UInt32($0) }.shuffled(using: &random)
        var (copy, gather, scatter) = (Stopwatch(), Stopwatch(), Stopwatch())
        order.withUnsafeBufferPointer { index in
            guard let index = index.baseAddress else { return }
            for _ in 0..<rounds {
                copy.time { target.update(from: source, count: rowCount * width) }
                gather.time {
                    Kernels.gatherRows(
                        target, from: source, at: index, rowCount: rowCount, rowWidth: width)
                }
                scatter.time {
                    Kernels.scatterAddRows(
                        source, to: target, at: index, rowCount: rowCount, rowWidth: width)
                }
            }
        }
        lines.append(.init(key: "memcpy", value: copy.json))
        lines.append(.init(key: "gather", value: gather.json))
        lines.append(.init(key: "scatter_add", value: scatter.json))
        lines.append(.init(key: "gather_of_memcpy", value: .number(copy.median / gather.median)))
        lines.append(
            .init(key: "scatter_add_of_memcpy", value: .number(copy.median / scatter.median)))
        // Beside a copy's read and write it reads its target: half as many bytes again.
        lines.append(
            .init(
                key: "scatter_add_bandwidth_of_memcpy",
                value: .number(1.5 * copy.median / scatter.median)))
        source.deallocate()
        target.deallocate()
    }

    /// One step over 16 M parameters.
    private func optimizer(_ rule: BenchRule, _ lines: inout [JSONValue.Member]) {
        let count = 16 << 20
        let optimizer = Optimizer(rule.configuration)
        let buffers = (0..<(2 + optimizer.stateKinds.count)).map { _ in values(count) }
        var watch = Stopwatch()
        for step in 0..<rounds {
            watch.time {
                optimizer.step(
                    values: buffers[0], gradient: buffers[1],
                    state: Optimizer.StatePointers(
                        buffers.count > 2 ? buffers[2] : nil, buffers.count > 3 ? buffers[3] : nil,
                        nil),
                    count: count, step: UInt64(step + 1), learningRate: 1e-3, gradientScale: 1,
                    workerCount: 1)
            }
        }
        lines.append(.init(key: rule.rawValue, value: watch.json))
        lines.append(
            .init(
                key: "\(rule.rawValue)_million_per_second",
                value: .number(Double(count) / watch.median / 1e3)))
        for buffer in buffers { buffer.deallocate() }
    }

    /// Memory as keepers and devices have it: on huge pages.
    private func values(_ count: Int) -> UnsafeMutablePointer<Float> {
        let raw = UnsafeMutableRawPointer.allocate(byteCount: count * 4, alignment: 2 << 20)
        madvise(raw, count * 4, MADV_HUGEPAGE)
        let memory = raw.bindMemory(to: Float.self, capacity: count)
        for index in 0..<count { memory[index] = Float(index % 1000) * 1e-3 }
        return memory
    }
}
