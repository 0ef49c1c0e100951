import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

extension TransportTests {
    /// What every carrier promises.
    @Suite struct CarrierTests {
        static let sizes = [
            0, 1, 63, 64, 65, 4096, 4097, 512 << 10, (2 << 20) - 64, 2 << 20, 16 << 20,
        ]

        @Test(arguments: allCarriers, sizes)
        func payloadArrivesWholeAlignedAndUnchanged(carrier: Carrier, size: Int) throws {
            let (near, far) = try connectedPair(carrier)
            let payload = pattern(size, seed: UInt64(size))
            var header = FrameHeader(.rows)
            header.table = 7
            header.third = .max
            let sent = header
            let sender = Running {
                outcome { () throws(TransportError) in try near.send(sent, payload) }
            }
            do {
                let frame = try far.receive(deadline: soon())
                #expect(frame.header.payloadBytes == UInt32(size))
                #expect(frame.header.table == 7 && frame.header.third == .max)
                #expect(Array(frame.payload) == payload)
                // In one process the memory is the sender's own.
                if let address = frame.payload.baseAddress, carrier != .inProcess {
                    #expect(Int(bitPattern: address) % 64 == 0)
                }
            }
            #expect(sender.value == nil)
            #expect(near.carrier == carrier && far.carrier == carrier)
            #expect(near.bytesSent == UInt64(64 + size) && far.bytesReceived == UInt64(64 + size))
            #expect(near.bytesReceived == 0 && far.bytesSent == 0)
        }

        @Test(arguments: allCarriers)
        func framesArriveInOrder(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let count = 3000
            let sender = Running {
                outcome { () throws(TransportError) in
                    for index in 0..<count {
                        var header = FrameHeader(.push)
                        header.tick = UInt64(index)
                        try near.send(header, pattern(index * 37 % 9000, seed: UInt64(index)))
                    }
                }
            }
            for index in 0..<count {
                let (header, payload) = try far.receiveCopy()
                guard header.tick == UInt64(index),
                    payload == pattern(index * 37 % 9000, seed: UInt64(index))
                else {
                    Issue.record("frame \(index) arrived as \(header.tick), \(payload.count) bytes")
                    break
                }
            }
            near.close()
            #expect(sender.value == nil)
        }

        @Test(arguments: allCarriers)
        func bothEndsSendLargePayloadsAtOnce(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let senders = [near, far].map { end in
                Running {
                    outcome { () throws(TransportError) in
                        let payload = pattern(3 << 20, seed: 5)
                        for _ in 0..<8 { try end.send(FrameHeader(.push), payload) }
                    }
                }
            }
            let receivers = [near, far].map { end in
                Running {
                    var sizes = 0
                    let error = outcome { () throws(TransportError) in
                        for _ in 0..<8 { sizes += try end.receiveCopy().payload.count }
                    }
                    return (error?.message ?? "", sizes)
                }
            }
            for receiver in receivers { #expect(receiver.value == ("", 8 * 3 << 20)) }
            for sender in senders { #expect(sender.value == nil) }
        }

        @Test(arguments: allCarriers)
        func senderWaitsWhileTheReceiverIsBehind(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let total = 64
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = pattern(1 << 20, seed: 1)
                    for _ in 0..<total { try near.send(FrameHeader(.push), payload) }
                }
            }
            usleep(200_000)
            // Ring, socket buffers and the frame in progress: far less than all 64 MiB.
            #expect(near.bytesSent < 24 << 20)
            for _ in 0..<total { #expect(try far.receiveCopy().payload.count == 1 << 20) }
            #expect(sender.value == nil)
        }

        @Test(arguments: allCarriers)
        func framesKeptKeepTheirContents(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let sender = Running {
                outcome { () throws(TransportError) in
                    for index in 0..<200 {
                        try near.send(FrameHeader(.push), pattern(4000, seed: UInt64(index)))
                    }
                }
            }
            for round in stride(from: 0, to: 200, by: 4) {
                let first = try far.receive(deadline: soon())
                let second = try far.receive(deadline: soon())
                let third = try far.receive(deadline: soon())
                let fourth = try far.receive(deadline: soon())
                #expect(Array(first.payload) == pattern(4000, seed: UInt64(round)))
                #expect(Array(second.payload) == pattern(4000, seed: UInt64(round + 1)))
                #expect(Array(third.payload) == pattern(4000, seed: UInt64(round + 2)))
                #expect(Array(fourth.payload) == pattern(4000, seed: UInt64(round + 3)))
            }
            #expect(sender.value == nil)
        }

        @Test(arguments: allCarriers)
        func closeWakesOurReceiver(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let receiver = Running {
                outcome { () throws(TransportError) in _ = try near.receiveCopy() }
            }
            usleep(20_000)
            near.close()
            near.close()
            #expect(receiver.value?.code == .closed)
            #expect(
                outcome { () throws(TransportError) in try near.send(FrameHeader(.push)) }?.code
                    == .closed)
            #expect(
                outcome { () throws(TransportError) in _ = try near.receiveCopy() }?.code == .closed
            )
            _ = far
        }

        @Test(arguments: allCarriers)
        func closeWakesOurSender(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = pattern(1 << 20, seed: 1)
                    for _ in 0..<64 { try near.send(FrameHeader(.push), payload) }
                }
            }
            usleep(100_000)
            near.close()
            #expect(sender.value?.code == .closed)
            _ = far
        }

        @Test(arguments: allCarriers)
        func anEndWithoutGoodbyeIsALoss(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let receiver = Running {
                outcome { () throws(TransportError) in _ = try far.receiveCopy() }
            }
            usleep(20_000)
            near.close()
            let error = receiver.value
            #expect(error?.code == .lost)
            #expect(error?.message.contains("without a goodbye") == true)
            #expect(error?.message.contains(far.peer) == true)
        }

        @Test(arguments: allCarriers)
        func anEndAfterGoodbyeIsOrderly(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            try near.send(FrameHeader(.push), pattern(100, seed: 3))
            try near.send(FrameHeader(.goodbye))
            near.close()
            #expect(try far.receiveCopy().payload == pattern(100, seed: 3))
            #expect(try far.receiveCopy().header.kind == .goodbye)
            for _ in 0..<2 {
                let error = outcome { () throws(TransportError) in _ = try far.receiveCopy() }
                #expect(error?.code == .closed)
            }
        }

        @Test(arguments: allCarriers)
        func theSenderLearnsThatThePeerIsGone(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = pattern(1 << 20, seed: 1)
                    for _ in 0..<64 { try near.send(FrameHeader(.push), payload) }
                }
            }
            usleep(50_000)
            far.close()
            #expect(sender.value?.code == .lost)
        }

        @Test(arguments: allCarriers)
        func aDroppedConnectionEndsTheOther(carrier: Carrier) throws {
            let far: any Connection
            do {
                let (near, other) = try connectedPair(carrier)
                far = other
                _ = near
            }
            #expect(
                outcome { () throws(TransportError) in _ = try far.receiveCopy() }?.code == .lost)
        }

        @Test(arguments: allCarriers)
        func receiveGivesUpAtItsDeadlineAndCanBeRepeated(carrier: Carrier) throws {
            let (near, far) = try connectedPair(carrier)
            for _ in 0..<2 {
                let started = monotonicNanoseconds()
                let error = outcome { () throws(TransportError) in
                    _ = try far.receiveCopy(deadline: .after(.milliseconds(30)))
                }
                #expect(error?.code == .deadline)
                #expect(milliseconds(since: started) >= 30)
            }
            try near.send(FrameHeader(.control), [1, 2, 3])
            #expect(try far.receiveCopy().payload == [1, 2, 3])
        }

        @Test(arguments: allCarriers, [0, 1, 5000, 3 << 20])
        func checkedPayloadsPassAndSaySo(carrier: Carrier, size: Int) throws {
            var options = TransportOptions()
            options.checksPayload = true
            let (near, far) = try connectedPair(carrier, options: options)
            let payload = pattern(size, seed: 9)
            let sender = Running {
                outcome { () throws(TransportError) in try near.send(FrameHeader(.push), payload) }
            }
            let (header, received) = try far.receiveCopy()
            #expect(header.flags == FrameHeader.payloadChecked)
            #expect(header.payloadChecksum == payload.withUnsafeBytes { crc32c($0) })
            #expect(received == payload)
            #expect(sender.value == nil)
        }

        @Test(arguments: allCarriers, [0, 1, 5000, 3 << 20])
        func aWrongChecksumIsMalformed(carrier: Carrier, size: Int) throws {
            let (near, far) = try connectedPair(carrier)
            let payload = pattern(size, seed: 9)
            var header = FrameHeader(.push)
            header.flags = FrameHeader.payloadChecked
            header.payloadChecksum = ~payload.withUnsafeBytes { crc32c($0) }
            let sent = header
            let sender = Running {
                outcome { () throws(TransportError) in try near.send(sent, payload) }
            }
            for _ in 0..<2 {
                let error = outcome { () throws(TransportError) in _ = try far.receiveCopy() }
                #expect(error?.code == .malformed)
                #expect(error?.message.contains("checksum of \(size) payload bytes") == true)
            }
            _ = sender.value
        }

        @Test func smallInProcessFramesDoNotWaitForTheReceiver() throws {
            let (near, far) = InProcess.pair(names: ("worker 0", "keeper 0"))
            let payload = pattern(InProcess.copiedBytesMaximum, seed: 2)
            for _ in 0..<InProcess.queuedFramesMaximum {
                try near.send(FrameHeader(.push), payload)
            }
            for _ in 0..<InProcess.queuedFramesMaximum {
                #expect(try far.receiveCopy().payload == payload)
            }
            #expect(near.peer == "keeper 0 (in-process)" && far.peer == "worker 0 (in-process)")
        }

        @Test func aLargeInProcessFrameIsTheSendersMemory() throws {
            let (near, far) = InProcess.pair()
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 64)
            defer { memory.deallocate() }
            let address = Int(bitPattern: memory.baseAddress)
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = UnsafeRawBufferPointer(
                        start: UnsafeRawPointer(bitPattern: address), count: 8192)
                    try near.send(FrameHeader(.push), payload: payload)
                }
            }
            do {
                let frame = try far.receive(deadline: soon())
                #expect(Int(bitPattern: frame.payload.baseAddress) == address)
                // Even a close does not take the memory from under the receiver.
                near.close()
                usleep(20_000)
                #expect(frame.payload.count == 8192)
            }
            #expect(sender.value == nil)
        }
    }
}
