import GeePSCore

/// What the processes of a job know and strangers do not; they prove it to each other before anything else.
///
/// Texts about it never have its bytes.
public struct JobSecret: Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// Fewer could be guessed by trying.
    public static let bytesMinimum = 16
    /// More is no secret but a wrong file.
    public static let bytesMaximum = 4096

    let bytes: [UInt8]
    /// Where it came from, for messages.
    public let origin: String

    /// A secret of `bytes`.
    ///
    /// - Throws: `LaunchError` (secret) when they are too few or too many.
    public init(_ bytes: [UInt8], origin: String) throws(LaunchError) {
        guard (Self.bytesMinimum...Self.bytesMaximum).contains(bytes.count) else {
            throw LaunchError(
                .secret,
                "the job secret from \(origin) has \(bytes.count) bytes, expected "
                    + "\(Self.bytesMinimum) to \(Self.bytesMaximum); make one by: openssl rand -hex 32"
            )
        }
        self.bytes = bytes
        self.origin = origin
    }

    /// A new one, that nobody else has: 32 random bytes, written in hexadecimal digits.
    public init() {
        bytes = Array(hexadecimal(randomBytes(32)).utf8)
        origin = "this process"
    }

    /// What `JobSecret.ofEnvironment` reads back from the variable `GEEPS_SECRET`; only for the environment of child
    /// processes.
    public var variableText: String { String(decoding: bytes, as: UTF8.self) }

    /// "a job secret from GEEPS_SECRET".
    public var description: String { "a job secret from \(origin)" }

    /// The same.
    public var debugDescription: String { description }

    /// Has no children: a secret is not to be printed.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// `count` bytes from the system's source of randomness.
func randomBytes(_ count: Int) -> [UInt8] {
    var random = SystemRandomNumberGenerator()
    return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
}

/// Two digits a byte.
func hexadecimal(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
