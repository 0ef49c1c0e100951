import CZlib
import Glibc

/// A folder that is gone when the test is.
final class TemporaryFolder {
    let path: String
    private var names: Set<String> = []

    init() {
        var template = Array("/tmp/geeps-nn-XXXXXX".utf8CString)
        mkdtemp(&template)
        path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    deinit {
        for name in names { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// Writes a file; returns its path.
    @discardableResult func write(_ bytes: some Sequence<UInt8>, to name: String) -> String {
        names.insert(name)
        let file = fopen("\(path)/\(name)", "wb")!
        fwrite(Array(bytes), 1, bytes.underestimatedCount, file)
        fclose(file)
        return "\(path)/\(name)"
    }

    /// The bytes of a gzip file that holds `bytes`.
    func gzip(_ bytes: [UInt8]) -> [UInt8] {
        names.insert("packed.gz")
        let file = gzopen("\(path)/packed.gz", "wb9")
        gzwrite(file, bytes, UInt32(bytes.count))
        gzclose(file)
        let packed = fopen("\(path)/packed.gz", "rb")!
        defer { fclose(packed) }
        var result = [UInt8](repeating: 0, count: bytes.count + 1024)
        result.removeLast(result.count - fread(&result, 1, result.count, packed))
        return result
    }
}
