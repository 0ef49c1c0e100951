internal import CGeePSShims
public import GeePSCore
internal import Safetensors

/// What a checkpoint consists of; written last, so that a directory with one is complete.
///
/// docs/formats/checkpoint.md is normative.
public struct Manifest: Hashable, Sendable {
    /// A file of the checkpoint.
    public struct File: Hashable, Sendable {
        /// Beside the manifest.
        public var name: String
        /// Its length.
        public var bytes: UInt64
        /// CRC-32C of all of them.
        public var checksum: UInt32

        /// A file of `bytes` bytes.
        public init(name: String, bytes: UInt64, checksum: UInt32) {
            self.name = name
            self.bytes = bytes
            self.checksum = checksum
        }
    }

    /// Clocks completed.
    public var tick: UInt64
    /// Workers that wrote it.
    public var workers: Int
    /// Keepers that wrote it.
    public var keepers: Int
    /// Samples that all workers together take in a clock; 0 where nobody counts.
    public var samplesPerClock: Int
    /// The tables, in the job's order.
    public var tables: [TableLayout]
    /// Names of the optimiser's state arrays.
    public var stateNames: [String]
    /// What the job had to agree on, a line each.
    public var agreement: String
    /// All files but the manifest.
    public var files: [File]

    /// A manifest.
    public init(
        tick: UInt64, workers: Int, keepers: Int, samplesPerClock: Int, tables: [TableLayout],
        stateNames: [String], agreement: String, files: [File]
    ) {
        self.tick = tick
        self.workers = workers
        self.keepers = keepers
        self.samplesPerClock = samplesPerClock
        self.tables = tables
        self.stateNames = stateNames
        self.agreement = agreement
        self.files = files
    }

    /// The name of the manifest.
    public static let fileName = "manifest.json"
    /// Most bytes of one that is read.
    static let byteCountMaximum: UInt64 = 64 << 20
    /// The version written, and the only one read.
    public static let version = 1

    /// The name of a keeper's file.
    public static func fileName(ofKeeper keeper: Int) -> String {
        "keeper-\(padded(keeper, 5)).safetensors"
    }
    /// The name of a worker's file.
    public static func fileName(ofWorker worker: Int) -> String {
        "worker-\(padded(worker, 5)).safetensors"
    }

    /// Whether `name` is one that a keeper's or a worker's file has.
    ///
    /// Compared byte by byte: as characters, a slash under an accent is no slash.
    static func isFileName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        let suffix = Array(".safetensors".utf8)
        guard
            let prefix = ["keeper-", "worker-"].first(where: { bytes.starts(with: $0.utf8) }),
            bytes.count >= prefix.utf8.count + suffix.count,
            bytes.suffix(suffix.count).elementsEqual(suffix)
        else { return false }
        let digits = bytes[prefix.utf8.count..<(bytes.count - suffix.count)]
        return (5...19).contains(digits.count)
            && digits.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    // MARK: Text

    /// The bytes of the manifest's file: JSON, whose last member is the CRC-32C of all bytes before its comma.
    public var bytes: [UInt8] {
        let tables = tables.map {
            "{\"name\":\(quotedJSON($0.name)),\"rows\":\($0.rowCount),\"width\":\($0.rowWidth)}"
        }
        let files = files.map {
            "{\"name\":\(quotedJSON($0.name)),\"bytes\":\($0.bytes),\"crc32c\":\($0.checksum)}"
        }
        let members = [
            "\"format\":\"geeps-checkpoint\"", "\"version\":\(Self.version)", "\"tick\":\(tick)",
            "\"workers\":\(workers)", "\"keepers\":\(keepers)",
            "\"samples_per_clock\":\(samplesPerClock)",
            "\"tables\":[\n\(tables.joined(separator: ",\n"))]",
            "\"state\":[\(stateNames.map(quotedJSON).joined(separator: ","))]",
            "\"agreement\":\(quotedJSON(agreement))",
            "\"files\":[\n\(files.joined(separator: ",\n"))]",
        ]
        let body = Array(("{" + members.joined(separator: ",\n")).utf8)
        let checksum = body.withUnsafeBytes { checksumOf($0) }
        return body + Array(",\n\"crc32c\":\(checksum)}\n".utf8)
    }

    /// Reads what somebody may have damaged; no bytes trap.
    ///
    /// - Throws: `.damaged`, saying what was found.
    public init(bytes: [UInt8]) throws(CheckpointError) {
        guard bytes.count <= Self.byteCountMaximum else {
            throw CheckpointError(.damaged, "the manifest has \(bytes.count) bytes")
        }
        var reader = ManifestReader()
        let failure = bytes.withUnsafeBytes { buffer -> SafetensorsError? in
            do throws(SafetensorsError) {
                try reader.read(buffer)
                return nil
            } catch {
                return error
            }
        }
        if let failure {
            throw CheckpointError(
                .damaged, "the manifest is not what was written: \(failure.message)")
        }
        self = try reader.manifest(bytes)
    }
}

/// Takes a manifest apart, member by member.
private struct ManifestReader {
    private var texts: [String: String] = [:]
    private var counts: [String: Int] = [:]
    private var tables: [(name: String, rows: Int, width: Int)] = []
    private var files: [Manifest.File] = []
    private var stateNames: [String] = []

    mutating func read(_ bytes: UnsafeRawBufferPointer) throws(SafetensorsError) {
        var scanner = JSONScanner(bytes)
        try scanner.takeMembers { (key, scanner) throws(SafetensorsError) in
            switch key {
            case "format", "agreement": texts[key] = try scanner.takeString()
            case "tables": try readTables(&scanner)
            case "files": try readFiles(&scanner)
            case "state":
                try Self.list(&scanner) { (scanner) throws(SafetensorsError) in
                    stateNames.append(try scanner.takeString())
                }
            default: counts[key] = try scanner.takeCount()
            }
        }
        try scanner.takeEnd()
    }

    private static func list(
        _ scanner: inout JSONScanner,
        _ element: (inout JSONScanner) throws(SafetensorsError) -> Void
    ) throws(SafetensorsError) {
        try scanner.take("[")
        if scanner.takeIfPresent("]") { return }
        repeat { try element(&scanner) } while scanner.takeIfPresent(",")
        try scanner.take("]")
    }

    /// A flat object: its name and its counts.
    private static func entry(_ scanner: inout JSONScanner) throws(SafetensorsError)
        -> (name: String, counts: [String: Int])
    {
        var name = ""
        var counts: [String: Int] = [:]
        try scanner.takeMembers { (key, scanner) throws(SafetensorsError) in
            if key == "name" {
                name = try scanner.takeString()
            } else {
                counts[key] = try scanner.takeCount()
            }
        }
        return (name, counts)
    }

    private mutating func readTables(_ scanner: inout JSONScanner) throws(SafetensorsError) {
        try Self.list(&scanner) { (scanner) throws(SafetensorsError) in
            let (name, counts) = try Self.entry(&scanner)
            tables.append((name, counts["rows"] ?? 0, counts["width"] ?? 0))
        }
    }

    private mutating func readFiles(_ scanner: inout JSONScanner) throws(SafetensorsError) {
        try Self.list(&scanner) { (scanner) throws(SafetensorsError) in
            let (name, counts) = try Self.entry(&scanner)
            files.append(
                Manifest.File(
                    name: name, bytes: UInt64(counts["bytes"] ?? 0),
                    checksum: UInt32(truncatingIfNeeded: counts["crc32c"] ?? 0)))
        }
    }

    func manifest(_ bytes: [UInt8]) throws(CheckpointError) -> Manifest {
        guard texts["format"] == "geeps-checkpoint", let version = counts["version"] else {
            throw CheckpointError(.damaged, "the manifest is not one of a geeps checkpoint")
        }
        guard version == Manifest.version else {
            throw CheckpointError(
                .mismatch,
                "the checkpoint has version \(version), this program reads \(Manifest.version)")
        }
        try checkChecksum(bytes)
        for table in tables {
            guard table.rows > 0, table.rows <= Limits.tableRowsMaximum, table.width > 0,
                table.width <= Int.max / MemoryLayout<Float>.stride / table.rows
            else {
                throw CheckpointError(
                    .damaged, "table \(table.name) has \(table.rows) rows of \(table.width) values")
            }
        }
        guard let tick = counts["tick"], let workers = counts["workers"], workers > 0,
            let keepers = counts["keepers"], keepers > 0,
            let samples = counts["samples_per_clock"], let agreement = texts["agreement"]
        else { throw CheckpointError(.damaged, "the manifest lacks what it must have") }
        for file in files where !Manifest.isFileName(file.name) {
            throw CheckpointError(
                .damaged,
                "the manifest names the file \(quotedJSON(String(file.name.prefix(80)))), expected names "
                    + "such as \(Manifest.fileName(ofKeeper: 0)) only")
        }
        return Manifest(
            tick: UInt64(tick), workers: workers, keepers: keepers, samplesPerClock: samples,
            tables: tables.map {
                TableLayout(name: $0.name, rowCount: $0.rows, rowWidth: $0.width)
            },
            stateNames: stateNames, agreement: agreement, files: files)
    }

    private func checkChecksum(_ bytes: [UInt8]) throws(CheckpointError) {
        let mark = Array(",\n\"crc32c\":".utf8)
        // The last one: file entries have theirs on one line.
        let end = bytes.indices.reversed().first { bytes[$0...].starts(with: mark) }
        let found = end.map { end in
            bytes.withUnsafeBytes { checksumOf(.init(rebasing: $0[..<end])) }
        }
        guard let found, counts["crc32c"] == Int(found) else {
            throw CheckpointError(.damaged, "the manifest's checksum is wrong")
        }
    }
}

/// CRC-32C of `bytes`.
func checksumOf(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    ~geeps_crc32c(~0, bytes.baseAddress, bytes.count)
}

/// `number` with zeros before it, so that names sort as numbers.
func padded(_ number: some BinaryInteger, _ digits: Int) -> String {
    let text = "\(number)"
    return String(repeating: "0", count: max(0, digits - text.count)) + text
}
