import GeePSCore
import Glibc
import Synchronization
import Testing

@testable import GeePSDevice

@Suite struct HostMemoryTests {
    private static let nothing = [Int](repeating: 0, count: MemoryPurpose.allCases.count)

    @Test func theDeviceLimitHoldsToTheByte() throws {
        let device = HostDevice(limitBytes: 1024)
        let first = try device.allocate(byteCount: 960, for: .parameterCache)
        let last = try device.allocate(byteCount: 64, for: .workspaces)
        let error = #expect(throws: DeviceError.self) {
            _ = try device.allocate(byteCount: 1, for: .indexes)
        }
        #expect(error?.code == .outOfMemory)
        #expect(
            error?.message
                == "host: 64 bytes for indexes on top of 1024 in use exceed the limit of 1024 bytes"
        )
        #expect(device.bytesInUse == [960, 0, 0, 0, 0, 64])
        #expect(device.allocationCount == 2)
        _ = consume first
        #expect(device.bytesInUse == [0, 0, 0, 0, 0, 64])
        #expect(device.bytesPeak == 1024)
        let lastBytes = last.byteCount
        #expect(lastBytes == 64)
    }

    @Test func thePinnedLimitIsAnotherAndHoldsToTheByte() throws {
        let device = HostDevice(limitBytes: 0, pinnedLimitBytes: 256)
        let buffer = try device.allocatePinned(byteCount: 256, for: .localData)
        let isBufferPinned = buffer.isPinned
        #expect(isBufferPinned)
        let error = #expect(throws: DeviceError.self) {
            _ = try device.allocatePinned(byteCount: 1, for: .updateLog)
        }
        #expect(error?.message.contains("64 bytes for update log on top of 256") == true)
        #expect(device.pinnedBytesInUse == [0, 0, 0, 256, 0, 0])
        #expect(device.bytesInUse == Self.nothing)
        _ = consume buffer
        #expect(device.pinnedBytesInUse == Self.nothing)
        #expect(device.pinnedBytesPeak == 256)
    }

    @Test(arguments: [0, 1, 64, 65, 4097, 2 << 20, (2 << 20) + 1])
    func memoryIsAlignedAndZeroed(byteCount: Int) throws {
        let device = HostDevice()
        // Dirt where the next allocation may land.
        if let dirt = malloc(byteCount) {
            memset(dirt, 0xff, byteCount)
            free(dirt)
        }
        let inside = try device.allocate(byteCount: byteCount, for: .localData)
        let pinned = try device.allocatePinned(byteCount: byteCount, for: .localData)
        let pageable = try device.allocateHost(
            byteCount: byteCount, for: .localData, preferPinned: false)
        for address in [inside.address, pinned.address, pageable.address] {
            #expect(UInt(bitPattern: address) % 64 == 0)
            let bytes = UnsafeRawBufferPointer(start: address, count: byteCount)
            #expect(bytes.allSatisfy { $0 == 0 })
        }
        let (isPinned, isPageablePinned) = (pinned.isPinned, pageable.isPinned)
        #expect(isPinned && !isPageablePinned)
        let counts = [inside.byteCount, pinned.byteCount, pageable.byteCount]
        #expect(counts == [byteCount, byteCount, byteCount])
    }

    @Test func runningOutOfPinnedMemoryFallsBackToPageableAndWarnsOnce() throws {
        let warnings = Mutex<[String]>([])
        let device = HostDevice(pinnedLimitBytes: 128) { message in
            warnings.withLock { $0.append(message) }
        }
        let first = try device.allocateHost(byteCount: 128, for: .localData, preferPinned: true)
        let isFirstPinned = first.isPinned
        #expect(isFirstPinned && warnings.withLock { $0.isEmpty })
        for _ in 0..<3 {
            let next = try device.allocateHost(
                byteCount: 64, for: .localData, preferPinned: true)
            let isNextPinned = next.isPinned
            #expect(!isNextPinned)
            #expect(device.pageableBytesInUse == [0, 0, 0, 64, 0, 0])
        }
        #expect(device.pageableBytesInUse == Self.nothing)
        _ = consume first
        let again = try device.allocateHost(byteCount: 64, for: .localData, preferPinned: true)
        let isAgainPinned = again.isPinned
        #expect(isAgainPinned)
        let said = warnings.withLock { $0 }
        #expect(said.count == 1)
        #expect(said.first?.contains("limit of 128 bytes; pageable memory") == true)
    }

    @Test func unwantedPinnedMemoryIsNotAWarning() throws {
        let warnings = Atomic(0)
        let device = HostDevice(pinnedLimitBytes: 0) { _ in
            warnings.add(1, ordering: .relaxed)
        }
        let buffer = try device.allocateHost(byteCount: 8, for: .localData, preferPinned: false)
        let isBufferPinned = buffer.isPinned
        #expect(!isBufferPinned)
        let warned = warnings.load(ordering: .relaxed)
        #expect(warned == 0)
    }

    /// Five allocations and a copy through them.
    private func copyThrough(_ device: HostDevice) throws -> Float {
        let source = try device.allocatePinned(byteCount: 64, for: .localData)
        let inside = try device.allocate(byteCount: 64, for: .accessBuffers)
        let stream = try device.makeStream(name: "faulty")
        let other = try device.allocate(byteCount: 64, for: .workspaces)
        let target = try device.allocatePinned(byteCount: 64, for: .localData)
        let spare = try device.allocate(byteCount: 64, for: .indexes)
        source.floats[3] = 5
        stream.copy(
            from: source.address, to: inside.address, byteCount: 64, direction: .hostToDevice)
        stream.copy(
            from: inside.address, to: other.address, byteCount: 64, direction: .deviceToDevice)
        stream.copy(
            from: other.address, to: target.address, byteCount: 64, direction: .deviceToHost)
        try stream.synchronise(deadline: patience)
        let spareBytes = spare.byteCount
        #expect(spareBytes == 64)
        return target.floats[3]
    }

    @Test func whicheverAllocationFailsNothingLeaksAndTheDeviceGoesOn() throws {
        let device = HostDevice()
        var failures = 0
        for number in 1... {
            device.failAllocation(number: number)
            do {
                #expect(try copyThrough(device) == 5)
                break
            } catch let error as DeviceError {
                failures += 1
                #expect(error.code == .outOfMemory)
                #expect(error.message.contains("64 bytes for"))
            }
            #expect(device.bytesInUse == Self.nothing)
            #expect(device.pinnedBytesInUse == Self.nothing)
            #expect(try copyThrough(device) == 5)
        }
        #expect(failures == 5)
        #expect(waits { threadCount(named: "faulty") == 0 })
    }

    @Test func aPinnedAllocationMadeToFailFallsBackToo() throws {
        let device = HostDevice()
        device.failAllocation(number: 1)
        let buffer = try device.allocateHost(byteCount: 8, for: .localData, preferPinned: true)
        let isBufferPinned = buffer.isPinned
        #expect(!isBufferPinned)
    }

    @Test func onlyAddressesInsidePinnedMemoryArePinned() {
        let ranges = PinnedRanges()
        let base = UnsafeMutableRawPointer(bitPattern: 0x10000)!
        for offset in [4096, 0, 8192] { ranges.insert(base + offset, byteCount: 1024) }
        #expect(ranges.contains(base, byteCount: 1024))
        #expect(ranges.contains(base + 4096 + 1000, byteCount: 24))
        #expect(!ranges.contains(base + 4096 + 1000, byteCount: 25))
        #expect(!ranges.contains(base - 1, byteCount: 1))
        #expect(!ranges.contains(base + 1024, byteCount: 1))
        ranges.remove(base + 4096)
        #expect(!ranges.contains(base + 4096, byteCount: 1))
        #expect(ranges.contains(base + 8192, byteCount: 1))
    }
}
