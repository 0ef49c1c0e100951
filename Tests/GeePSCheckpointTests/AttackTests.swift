import Foundation
import Glibc
import Testing

@testable import GeePSCheckpoint

/// What somebody puts into a checkpoint who wants more than rows read.
@Suite struct CheckpointAttackTests {
    /// Names of files, in a manifest whose checksum is right.
    static let names = [
        "../../../etc/passwd", "..", ".", "", "/etc/passwd", "sub/keeper-00000.safetensors",
        "keeper-00000.safetensors\u{0}", "keeper-00000.safetensors/", "keeper-00000.safetensors ",
        "manifest.json", "keeper-.safetensors", "keeper-0000.safetensors",
        "keeper-00000.safetensors.safetensors", "keeper-0000\u{660}.safetensors",
        // A slash that is one to the system, but not a character of its own.
        "..\u{2F}\u{301}etc", "keeper-\u{2F}\u{301}00000.safetensors",
        "keeper-" + String(repeating: "0", count: 20) + ".safetensors",
        "keeper-" + String(repeating: "1", count: 1_000_000) + ".safetensors",
    ]

    @Test(arguments: names.indices) func aManifestNamesOnlyItsFiles(index: Int) {
        let bytes = TestShard(keepers: 1).manifest(
            1, [.init(name: Self.names[index], bytes: 1, checksum: 1)]
        ).bytes
        let error = #expect(throws: CheckpointError.self) { _ = try Manifest(bytes: bytes) }
        #expect(error?.code == .damaged)
        #expect(error?.message.contains("names the file") == true)
        #expect((error?.message.count ?? 0) < 1000)
    }

    @Test(arguments: [
        "keeper-00000.safetensors", "worker-99999.safetensors",
        "keeper-" + String(repeating: "9", count: 19) + ".safetensors",
    ])
    func namesThatWritersGiveAreRead(name: String) throws {
        let manifest = TestShard(keepers: 1).manifest(
            1, [.init(name: name, bytes: 1, checksum: 1)])
        #expect(try Manifest(bytes: manifest.bytes) == manifest)
    }

    private func written() throws -> (TemporaryFolder, String) {
        let folder = try TemporaryFolder()
        try TestShard(keepers: 1).write(3, by: CheckpointWriter(directory: folder.path))
        return (folder, CheckpointDirectory.path(folder.path, 3))
    }

    private static let keeper = Manifest.fileName(ofKeeper: 0)

    /// A link to the very same bytes: who wrote the checkpoint left none.
    @Test(arguments: [keeper, Manifest.fileName]) func linksAreNotFollowed(name: String) throws {
        let (folder, path) = try written()
        defer { _ = folder }
        try FileManager.default.moveItem(
            atPath: path + "/" + name, toPath: folder.path + "/elsewhere")
        #expect(symlink(folder.path + "/elsewhere", path + "/" + name) == 0)
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: path).verify() }
        #expect(error?.message.contains("is a symbolic link") == true)
    }

    /// Opening or reading one of these would never end.
    @Test(arguments: [keeper, Manifest.fileName]) func pipesAreNotWaitedFor(name: String) throws {
        let (folder, path) = try written()
        defer { _ = folder }
        try FileManager.default.removeItem(atPath: path + "/" + name)
        #expect(mkfifo(path + "/" + name, 0o600) == 0)
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: path).verify() }
        #expect(error?.message.contains("is not a file") == true)
    }

    @Test func aHugeManifestIsNotRead() throws {
        let (folder, path) = try written()
        defer { _ = folder }
        let name = path + "/" + Manifest.fileName
        #expect(truncate(name, 1 << 40) == 0)
        let error = #expect(throws: CheckpointError.self) { try Checkpoint(path: path) }
        #expect(error?.message.contains("at most 67108864 are read") == true)
    }

    /// Rows whose checksum nobody has written down are not taken for those of the run.
    @Test func aFileThatTheManifestDoesNotNameIsNotRead() throws {
        let (folder, path) = try written()
        defer { _ = folder }
        let manifest = TestShard(keepers: 1).manifest(3, [])
        try Data(manifest.bytes).write(to: URL(filePath: path + "/" + Manifest.fileName))
        let checkpoint = try Checkpoint(path: path)
        let error = #expect(throws: CheckpointError.self) { try ShardReader(checkpoint) }
        #expect(error?.message.contains("does not name \(Self.keeper)") == true)
    }

    /// Their bytes would not fit an integer.
    @Test(arguments: [(1, Int.max), (4_294_967_295, 1 << 40), (0, 1), (1, 0)])
    func tablesBeyondAllMemoryAreRefused(rows: Int, width: Int) {
        let text = String(decoding: TestShard(keepers: 1).manifest(1, []).bytes, as: UTF8.self)
        let body = text.replacing(
            "\"rows\":1,\"width\":1}", with: "\"rows\":\(rows),\"width\":\(width)}")
        let bytes = Array(
            body[..<(body.range(of: ",\n\"crc32c\":", options: .backwards)!.lowerBound)].utf8)
        let checksum = bytes.withUnsafeBytes { checksumOf($0) }
        let forged = bytes + Array(",\n\"crc32c\":\(checksum)}\n".utf8)
        let error = #expect(throws: CheckpointError.self) { _ = try Manifest(bytes: forged) }
        #expect(error?.message.contains("rows of") == true)
    }
}
