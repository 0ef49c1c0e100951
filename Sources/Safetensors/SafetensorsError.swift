/// Why a file could not be read or written; names the file, the tensor, what was found and expected.
public struct SafetensorsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of failure.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case inputOutput, header, json, tensor, length, unknown, mismatch
        }
        private let value: Value

        /// The system refused to open, read, write, sync or rename.
        public static let inputOutput = Code(value: .inputOutput)
        /// The header's length is impossible, or over the limit.
        public static let header = Code(value: .header)
        /// The header is not JSON of the format's shape.
        public static let json = Code(value: .json)
        /// A tensor's entry contradicts itself or another: type, shape, offsets, a name twice.
        public static let tensor = Code(value: .tensor)
        /// The file is shorter or longer than its header says.
        public static let length = Code(value: .length)
        /// No tensor of that name.
        public static let unknownTensor = Code(value: .unknown)
        /// A tensor is not what the caller takes it for.
        public static let mismatch = Code(value: .mismatch)

        /// The kind in a word.
        public var description: String { value.rawValue }
    }

    /// The kind of failure.
    public let code: Code
    /// The whole story in one line.
    public let message: String

    /// The message.
    public var description: String { message }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}
