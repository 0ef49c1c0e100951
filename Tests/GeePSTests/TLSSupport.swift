import GeePSCore
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

let hasOpenSSL = (try? TLSLibrary.load()) != nil

/// A CA in a directory of its own, and files of certificates of it; `remove` it in the end.
final class TLSDirectory: Sendable {
    let path: String
    private let authority: TLSAuthority

    init(name: String = "job CA") throws {
        authority = try TLSAuthority(name: name)
        var template = Array("/tmp/geeps-tls-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
        try write("ca", authority.identity.certificate)
    }

    func remove() { _ = system("rm -rf '\(path)'") }

    /// Files of a fresh certificate.
    func files(_ name: String = "node") throws -> TLSFiles {
        let identity = try authority.issue(name: name)
        return TLSFiles(
            certificate: try write(name, identity.certificate),
            key: try write("\(name)-key", identity.key), ca: "\(path)/ca.pem")
    }

    @discardableResult
    private func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = "\(path)/\(name).pem"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        defer { close(descriptor) }
        try #require(Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
        return file
    }
}

/// A machine in the middle with a certificate of the job: takes TLS off on one side and puts it on again on the other,
/// and passes on what both say.
final class CipherRelay: Sendable {
    let address: String
    private let thread: DedicatedThread
    private let isClosed = Shared(false)
    /// Bytes that it has read in clear.
    let overheard = Shared<[UInt8]>([])

    init(to target: String, _ files: TLSFiles) throws {
        let context = try TLSContext(files)
        let (listener, port) = try ControlSocket.listen(at: ControlAddress(parsing: "127.0.0.1:0"))
        address = "127.0.0.1:\(port)"
        let place = try ControlAddress(parsing: target)
        let (isClosed, overheard) = (isClosed, overheard)
        thread = DedicatedThread(name: "relay") {
            while !isClosed.value {
                usleep(1000)
                guard let (near, _) = try? ControlSocket.accept(from: listener),
                    let far = try? ControlSocket.connect(to: place, deadline: .after(.seconds(5)))
                else { continue }
                Self.pass(near, far, context, overheard, until: { isClosed.value })
            }
        }
    }

    func close() {
        isClosed.update { $0 = true }
        thread.join()
    }

    private static func pass(
        _ near: Descriptor, _ far: Descriptor, _ context: TLSContext, _ overheard: Shared<[UInt8]>,
        until isOver: () -> Bool
    ) {
        let ciphers = [
            ControlCipher(context, side: .listener, peer: "the caller"),
            ControlCipher(context, side: .caller, peer: "the listener"),
        ]
        let sockets = [near, far]
        deliver(ciphers[0].start(), near)
        deliver(ciphers[1].start(), far)
        while !isOver() {
            for side in 0...1 {
                var bytes = [UInt8](repeating: 0, count: 4096)
                let count = recv(sockets[side].number, &bytes, bytes.count, 0)
                if count == 0 { return }
                guard count > 0 else { continue }
                var clear: [UInt8] = []
                let answer = bytes.withUnsafeBytes {
                    ciphers[side].decrypt(
                        UnsafeRawBufferPointer(rebasing: $0[..<count]), into: &clear)
                }
                deliver(answer, sockets[side])
                if ciphers[side].ending != nil { return }
                overheard.update { $0 += clear }
                if !clear.isEmpty { deliver(ciphers[1 - side].encrypt(clear), sockets[1 - side]) }
            }
            usleep(500)
        }
    }

    private static func deliver(_ bytes: [UInt8], _ socket: Descriptor) {
        guard !bytes.isEmpty else { return }
        _ = send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}
