/// Where rank 0 is met: "node1:9000", "127.0.0.1:9000" or "[::1]:9000".
struct ControlAddress: Hashable, Sendable, CustomStringConvertible {
    let host: String
    let port: UInt16

    init(parsing text: String) throws(LaunchError) {
        let colon = text.lastIndex(of: ":")
        let hostPart = colon.map { text[..<$0] } ?? ""
        let isBracketed = hostPart.hasPrefix("[") && hostPart.hasSuffix("]")
        let host = isBracketed ? hostPart.dropFirst().dropLast() : hostPart
        guard let colon, !host.isEmpty, isBracketed || !host.contains(":"),
            let port = UInt16(text[text.index(after: colon)...])
        else {
            throw LaunchError(
                .address,
                "the address of rank 0 is \"\(text)\", expected host:port such as node1:9000")
        }
        self.init(host: String(host), port: port)
    }

    init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
