import GeePSCore
import Glibc
import Testing

@testable import GeePS

/// A directory that goes with its owner.
private final class Directory {
    let path: String

    init() { path = "/tmp/geeps-secret-\(getpid())-\(UInt64.random(in: .min ... .max))" }

    deinit {
        unlink(path + "/secret")
        rmdir(path)
    }

    /// Writes `text` to the file, with `mode`.
    func write(_ text: String, mode: mode_t = 0o600) {
        mkdir(path, 0o700)
        let descriptor = open(path + "/secret", O_WRONLY | O_CREAT | O_TRUNC, mode)
        let bytes = Array(text.utf8)
        #expect(Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
        fchmod(descriptor, mode)
        close(descriptor)
    }

    func read(warn: (String) -> Void = { _ in }) throws -> JobSecret {
        try JobSecret.read(path + "/secret", origin: "a file", warn: warn)
    }
}

@Suite struct JobSecretTests {
    @Test func aNewOneIsLikeNoOther() throws {
        let (one, two) = (JobSecret(), JobSecret())
        #expect(one.bytes.count == 64 && one.bytes != two.bytes)
        #expect(Array(one.variableText.utf8) == one.bytes)
    }

    @Test func noTextAboutItHasItsBytes() throws {
        let secret = try JobSecret(Array("correct horse battery".utf8), origin: "a test")
        var configuration = NodeConfiguration(
            tables: [], optimizer: .init(rule: .add, learningRate: 0, reduction: .sum))
        configuration.control.secret = secret
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(secret)", String(reflecting: secret), "\(configuration)", dumped] {
            #expect(!text.contains("horse"))
            // "h", as an element of an array or a line of a dump.
            #expect(!text.contains(" 104"))
        }
    }

    @Test(arguments: [(15, false), (16, true), (4096, true), (4097, false)])
    func itHasNeitherTooFewBytesNorTooMany(count: Int, isGood: Bool) {
        let directory = Directory()
        directory.write(String(repeating: "x", count: count) + "\n")
        #expect((try? directory.read().bytes.count) == (isGood ? count : nil))
    }

    @Test func aFilesLastWhiteSpaceDoesNotCount() throws {
        let directory = Directory()
        directory.write("0123 456789abcdef \r\n\n")
        #expect(try directory.read().bytes == Array("0123 456789abcdef".utf8))
    }

    @Test func aFileThatEverybodyCanReadIsWarnedAbout() throws {
        let directory = Directory()
        directory.write("0123456789abcdef", mode: 0o644)
        var lines: [String] = []
        _ = try directory.read { lines.append($0) }
        #expect(lines.count == 1 && lines[0].contains("chmod 600"))
        directory.write("0123456789abcdef", mode: 0o640)
        _ = try directory.read { lines.append($0) }
        #expect(lines.count == 1)
    }

    @Test func aFileThatIsNotThereIsNamed() {
        #expect {
            try JobSecret.read("/nowhere/secret", origin: "x") { _ in }
        } throws: {
            ($0 as? LaunchError)?.code == .secret
                && "\($0)"
                    == "cannot read the job secret in /nowhere/secret: No such file or directory"
        }
    }

    /// Several processes may come at once; all must go away with the same.
    @Test func theUsersOwnIsMadeOnce() throws {
        let directory = Directory()
        let path = directory.path
        let found = onRanks(8) { _ in try? JobSecret.ofUser(in: path).bytes }
        #expect(found.count == 8 && Set(found).count == 1 && found[0]?.count == 64)
        var status = stat()
        #expect(stat(path + "/secret", &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    @Test func theUsersOwnMustBeClosedToOthers() {
        let directory = Directory()
        directory.write("0123456789abcdef", mode: 0o640)
        #expect {
            try JobSecret.ofUser(in: directory.path)
        } throws: {
            "\($0)".contains("chmod 600")
        }
    }
}
