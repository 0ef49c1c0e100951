internal import GeePS
internal import GeePSTransport

/// An option as text, as `geeps_set` takes it.
struct Option {
    let key: String
    let value: String

    private static let keys = [
        "rank", "world_size", "rendezvous", "interface", "keepers", "keeper_threads", "staleness",
        "transport", "tls_certificate", "tls_key", "tls_ca", "join_timeout", "wait_timeout",
        "reconnect_timeout", "memory", "budget_bytes", "device", "agreement",
    ]

    /// Puts the option into `configuration`.
    ///
    /// - Throws: naming the key, what was found and what was expected.
    func apply(to configuration: inout NodeConfiguration) throws(ABIError) {
        switch key {
        case "rank": configuration.rank = try number(0...Limits.workersMaximum - 1)
        case "world_size": configuration.worldSize = try number(1...Limits.workersMaximum)
        case "keepers": configuration.keeperCount = try number(1...Limits.workersMaximum)
        case "keeper_threads": configuration.keeperThreads = try number(1...64)
        case "rendezvous": configuration.rendezvous = value
        case "interface": configuration.interface = value
        case "agreement": configuration.agreement = value
        case "tls_certificate": configuration.control.tls.orNone.certificate = value
        case "tls_key": configuration.control.tls.orNone.key = value
        case "tls_ca": configuration.control.tls.orNone.ca = value
        case "join_timeout": configuration.joinTimeout = try seconds()
        case "wait_timeout": configuration.waitTimeout = try seconds()
        case "reconnect_timeout": configuration.reconnectTimeout = try seconds()
        case "staleness": configuration.staleness = try staleness()
        case "transport": configuration.carrier = try carrier()
        case "memory": try setMemory(&configuration)
        case "budget_bytes":
            var memory = configuration.memory ?? MemoryConfiguration()
            memory.budgetBytes = try number(1...Int.max)
            configuration.memory = memory
        default:
            throw .argument(
                "unknown option '\(key)', expected one of \(Self.keys.joined(separator: ", "))")
        }
    }

    /// What one option alone cannot tell.
    static func check(_ configuration: NodeConfiguration) throws(ABIError) {
        guard configuration.rank < configuration.worldSize else {
            throw .argument(
                "rank is \(configuration.rank) but world_size is \(configuration.worldSize): ranks go from "
                    + "0 to \(configuration.worldSize - 1)")
        }
    }

    private func number(_ range: ClosedRange<Int>) throws(ABIError) -> Int {
        guard let number = Int(value), range.contains(number) else {
            throw expected("an integer from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    private func seconds() throws(ABIError) -> Duration {
        guard let seconds = Double(value), seconds > 0, seconds <= 1e8 else {
            throw expected("seconds, more than 0")
        }
        return .milliseconds(Int64((seconds * 1000).rounded(.up)))
    }

    private func staleness() throws(ABIError) -> Staleness {
        if value == "async" { return .unbounded }
        guard let clocks = UInt64(value), clocks <= Limits.stalenessClocksMaximum else {
            throw expected("async, or clocks from 0 to \(Limits.stalenessClocksMaximum)")
        }
        return .clocks(clocks)
    }

    private func carrier() throws(ABIError) -> CarrierChoice {
        switch value {
        case "auto": .auto
        case "shm": .fixed(.sharedMemory)
        case "unix": .fixed(.unixSocket)
        case "tcp": .fixed(.tcp)
        case "ucx": .fixed(.ucx)
        default: throw expected("auto, shm, unix, tcp or ucx")
        }
    }

    /// The device of option `device`: a GPU has its number, which torch says.
    func device() throws(ABIError) -> DeviceChoice {
        guard let choice = try? DeviceChoice(parsing: value), choice != .auto,
            choice != .cuda(ordinal: nil)
        else { throw expected("host, or cuda:N as in cuda:0") }
        return choice
    }

    private func setMemory(_ configuration: inout NodeConfiguration) throws(ABIError) {
        switch value {
        case "resident": configuration.memory = nil
        case "managed": configuration.memory = configuration.memory ?? MemoryConfiguration()
        default: throw expected("resident or managed")
        }
    }

    private func expected(_ what: String) -> ABIError {
        .argument("option \(key) is '\(value)', expected \(what)")
    }
}

extension TLSFiles? {
    /// The files, with empty paths where none was given.
    fileprivate var orNone: TLSFiles {
        get { self ?? TLSFiles(certificate: "", key: "", ca: "") }
        set { self = newValue }
    }
}
