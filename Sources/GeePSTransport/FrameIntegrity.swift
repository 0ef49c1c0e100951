import CGeePSShims
import GeePSCore

/// The CRC-32C of a payload, by the processor's own instruction where it has one.
func checksum(ofPayload payload: UnsafeRawBufferPointer) -> UInt32 {
    ~geeps_crc32c(~0, payload.baseAddress, payload.count)
}

extension FrameHeader {
    /// The header as it travels: with the payload's length and, when asked, its checksum.
    ///
    /// A caller may have set `payloadChecked` and the checksum itself; then both stay.
    func sealed(over payload: UnsafeRawBufferPointer, checksPayload: Bool) -> FrameHeader {
        precondition(
            payload.count <= Limits.framePayloadBytesMaximum,
            "a frame's payload is at most \(Limits.framePayloadBytesMaximum) bytes, got \(payload.count)"
        )
        var header = self
        header.payloadBytes = UInt32(payload.count)
        if checksPayload && header.flags & Self.payloadChecked == 0 {
            header.flags |= Self.payloadChecked
            header.payloadChecksum = checksum(ofPayload: payload)
        }
        return header
    }

    /// Compares the payload with its checksum, when the frame carries one.
    func verify(_ payload: UnsafeRawBufferPointer, from peer: String) throws(TransportError) {
        guard flags & Self.payloadChecked != 0 else { return }
        let found = checksum(ofPayload: payload)
        guard found == payloadChecksum else {
            throw TransportError(
                .malformed,
                "\(kind) frame from \(peer): checksum of \(payload.count) payload bytes is "
                    + "\(hexadecimal(found)), its header says \(hexadecimal(payloadChecksum))")
        }
    }

    /// Reads a header that came from `peer`.
    static func decode(
        _ bytes: UnsafeRawBufferPointer, from peer: String
    ) throws(TransportError) -> FrameHeader {
        do throws(FrameError) {
            return try FrameHeader(decoding: bytes)
        } catch {
            throw TransportError(.malformed, "frame from \(peer): \(error)")
        }
    }

    /// Refuses a frame that announces more than `limit` bytes of payload.
    func check(limit: Int, from peer: String) throws(TransportError) {
        guard Int(payloadBytes) <= limit else {
            throw TransportError(
                .malformed,
                "\(kind) frame from \(peer): \(payloadBytes) bytes announced, at most \(limit) are allowed now"
            )
        }
    }

    /// Bytes of the frame on the wire.
    var frameBytes: Int { Limits.frameHeaderBytes + Int(payloadBytes) }
}

func hexadecimal(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }
