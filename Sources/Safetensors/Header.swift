/// One tensor's entry in a header.
public struct TensorInfo: Hashable, Sendable {
    /// Unique in a file, compared byte by byte; any Unicode but `__metadata__`.
    public let name: String
    /// What an element is.
    public let elementType: ElementType
    /// Extents, the last one contiguous; empty for a scalar.
    public let shape: [Int]
    /// Where its bytes lie, counted from the end of the header.
    public let byteRange: Range<Int>

    /// Elements.
    public var elementCount: Int { shape.reduce(1, *) }

    /// Bytes.
    public var byteCount: Int { byteRange.count }
}

/// The table of contents of a file: which tensors it has and where.
///
/// Bytes from outside never trap: a header that breaks a rule of the format is refused with the rule.
/// A header holds by construction: names are unique, shapes fit their bytes, tensors cover the data
/// without gap or overlap.
public struct Header: Hashable, Sendable {
    /// Bytes of a header at most, the reference's limit.
    public static let byteCountMaximum = 100_000_000

    /// Tensors by position in the file.
    public let tensors: [TensorInfo]
    /// Free text about the file.
    public let metadata: [String: String]
    /// Bytes of all tensors.
    public let dataByteCount: Int

    private let indexOfName: [NameKey: Int]

    /// The entry of a tensor, or nil.
    public subscript(name: String) -> TensorInfo? {
        indexOfName[NameKey(name)].map { tensors[$0] }
    }

    /// Reads a header's JSON: `bytes` are the header alone, without its length.
    public init(json bytes: UnsafeRawBufferPointer) throws(SafetensorsError) {
        guard bytes.first == UInt8(ascii: "{") else {
            throw SafetensorsError(.json, "header byte 0: expected '{'")
        }
        var scanner = JSONScanner(bytes)
        var metadata: [String: String]?
        var tensors: [TensorInfo] = []
        try scanner.takeMembers { (name, scanner) throws(SafetensorsError) in
            if name == "__metadata__" {
                if metadata != nil { throw SafetensorsError(.json, "__metadata__ comes twice") }
                metadata = try Self.takeMetadata(&scanner)
            } else {
                tensors.append(try Self.takeTensor(name, &scanner))
            }
        }
        try scanner.takeEnd()
        try self.init(tensors: tensors, metadata: metadata ?? [:])
    }

    /// Puts entries in order and checks them against one another.
    init(tensors: [TensorInfo], metadata: [String: String]) throws(SafetensorsError) {
        var indexOfName: [NameKey: Int] = [:]
        indexOfName.reserveCapacity(tensors.count)
        // Of two that start together the empty one comes first.
        let tensors = tensors.sorted {
            ($0.byteRange.lowerBound, $0.byteRange.upperBound)
                < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
        }
        var end = 0
        for (index, tensor) in tensors.enumerated() {
            if indexOfName.updateValue(index, forKey: NameKey(tensor.name)) != nil {
                throw SafetensorsError(.tensor, "tensor \(tensor.name): the name comes twice")
            }
            guard tensor.byteRange.lowerBound == end else {
                let fault = tensor.byteRange.lowerBound < end ? "overlaps" : "leaves a hole after"
                throw SafetensorsError(
                    .tensor,
                    "tensor \(tensor.name): starts at byte "
                        + "\(tensor.byteRange.lowerBound), \(fault) the one before, which ends at \(end)"
                )
            }
            end = tensor.byteRange.upperBound
        }
        self.tensors = tensors
        self.metadata = metadata
        self.indexOfName = indexOfName
        dataByteCount = end
    }

    private static func takeMetadata(
        _ scanner: inout JSONScanner
    ) throws(SafetensorsError) -> [String: String] {
        var result: [String: String] = [:]
        try scanner.takeMembers { (key, scanner) throws(SafetensorsError) in
            if result.updateValue(try scanner.takeString(), forKey: key) != nil {
                throw SafetensorsError(.json, "__metadata__: key \(key) comes twice")
            }
        }
        return result
    }

    private static func takeTensor(
        _ name: String, _ scanner: inout JSONScanner
    ) throws(SafetensorsError) -> TensorInfo {
        var typeName: String?
        var shape: [Int]?
        var offsets: [Int]?
        try scanner.takeMembers { (key, scanner) throws(SafetensorsError) in
            switch key {
            case "dtype" where typeName == nil: typeName = try scanner.takeString()
            case "shape" where shape == nil: shape = try scanner.takeCounts()
            case "data_offsets" where offsets == nil: offsets = try scanner.takeCounts()
            default:
                throw SafetensorsError(
                    .json, "tensor \(name): key \(key), expected dtype, shape and data_offsets once"
                )
            }
        }
        guard let typeName, let shape, let offsets else {
            throw SafetensorsError(
                .json, "tensor \(name): expected dtype, shape and data_offsets, one is missing")
        }
        guard let elementType = ElementType(rawValue: typeName) else {
            throw SafetensorsError(
                .tensor,
                "tensor \(name): dtype \(typeName), expected one of "
                    + ElementType.allCases.map(\.rawValue).joined(separator: " "))
        }
        guard offsets.count == 2, offsets[0] <= offsets[1] else {
            throw SafetensorsError(
                .tensor, "tensor \(name): data_offsets \(offsets), expected [start, end]")
        }
        guard let byteCount = elementType.byteCount(shape: shape) else {
            throw SafetensorsError(
                .tensor,
                "tensor \(name): \(typeName) \(shape) is no whole number of bytes "
                    + "that can be counted")
        }
        guard byteCount == offsets[1] - offsets[0] else {
            throw SafetensorsError(
                .tensor,
                "tensor \(name): \(offsets[1] - offsets[0]) bytes in the file, "
                    + "\(typeName) \(shape) needs \(byteCount)")
        }
        return TensorInfo(
            name: name, elementType: elementType, shape: shape, byteRange: offsets[0]..<offsets[1])
    }

    /// The JSON, padded with spaces so that the data after it starts at a multiple of eight.
    var json: [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { NameKey($0.key) < NameKey($1.key) }
                .map { quotedJSON($0.key) + ":" + quotedJSON($0.value) }
            members.append("\"__metadata__\":{" + pairs.joined(separator: ",") + "}")
        }
        for tensor in tensors {
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            members.append(
                quotedJSON(tensor.name) + ":{\"dtype\":\"\(tensor.elementType.rawValue)\","
                    + "\"shape\":[\(shape)],\"data_offsets\":"
                    + "[\(tensor.byteRange.lowerBound),\(tensor.byteRange.upperBound)]}")
        }
        var bytes = Array(("{" + members.joined(separator: ",") + "}").utf8)
        while bytes.count % 8 != 0 { bytes.append(UInt8(ascii: " ")) }
        return bytes
    }
}

extension JSONScanner {
    /// An object: `member` is called with each key and takes its value.
    package mutating func takeMembers(
        _ member: (String, inout JSONScanner) throws(SafetensorsError) -> Void
    ) throws(SafetensorsError) {
        try take("{")
        if takeIfPresent("}") { return }
        repeat {
            let key = try takeString()
            try take(":")
            try member(key, &self)
        } while takeIfPresent(",")
        try take("}")
    }

    /// An array of whole numbers.
    mutating func takeCounts() throws(SafetensorsError) -> [Int] {
        try take("[")
        var result: [Int] = []
        if takeIfPresent("]") { return result }
        repeat { result.append(try takeCount()) } while takeIfPresent(",")
        try take("]")
        return result
    }
}

/// A name by its bytes: two spellings of one accented letter are two names, as in the reference, while
/// Swift's strings would call them equal.
struct NameKey: Hashable, Sendable, Comparable {
    let bytes: [UInt8]

    init(_ name: String) { bytes = Array(name.utf8) }

    static func < (a: NameKey, b: NameKey) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }
}
