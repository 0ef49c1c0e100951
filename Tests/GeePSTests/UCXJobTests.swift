import GeePSCore
import GeePSTransport
import Testing

@testable import GeePS

private let hasUCX = (try? UCXLibrary.load()) != nil

/// Jobs whose lanes go over UCX.
@Suite(.serialized, .enabled(if: hasUCX, "needs UCX")) struct UCXJobTests {
    private func configuration(
        _ rank: Int, of size: Int, at address: String, lanes: Int? = nil, transports: String,
        log: Shared<[String]>? = nil
    ) -> NodeConfiguration {
        nodeConfiguration(
            rank, of: size, at: address, keepers: size, carrier: .fixed(.ucx), lanes: lanes,
            log: log
        ).with { $0.transport.ucxTransports = transports }
    }

    @Test(arguments: ["tcp", "posix"], [1, 3])
    func sumsAreExactOverUCX(transports: String, lanes: Int) throws {
        let address = try freeAddress()
        let nodes = try joinNodes(3) { rank in
            configuration(rank, of: 3, at: address, lanes: lanes, transports: transports)
        }.map { try $0.get() }
        #expect(nodes[0].carriers[1] == "ucx x\(lanes)")
        try initialise(nodes[0])
        #expect(trainAll(nodes, clocks: 0..<20) == [0, 0, 0])
        #expect(leaveAll(nodes) == [true, true, true])
    }

    @Test func aProcessWithoutTheTransportsSaysWhy() throws {
        let address = try freeAddress()
        let outcomes = joinNodes(2) { rank in
            configuration(
                rank, of: 2, at: address, transports: rank == 0 ? "tcp" : "no-such-transport")
        }
        let messages = outcomes.map { outcome in
            if case .failure(let error) = outcome { "\(error)" } else { "" }
        }
        #expect(
            messages[0].contains("UCX: start") && messages[0].contains("no-such-transport"),
            "\(messages)")
    }
}
