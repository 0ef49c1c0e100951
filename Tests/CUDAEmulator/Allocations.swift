import Glibc

/// A stretch of emulated memory.
final class Allocation {
    enum Kind: Equatable {
        case device
        case pinned

        var noun: String { self == .device ? "device memory" : "pinned memory" }
    }

    let kind: Kind
    /// The context it was allocated in.
    let context: OpaquePointer
    let range: AddressRange
    /// As accounted.
    let byteCount: Int
    /// Of the call that allocated it.
    let number: Int
    var shadow: ShadowMemory
    /// Of the call that freed it.
    var freedBy: Int?

    init(
        kind: Kind, context: OpaquePointer, address: UInt, requested: Int, byteCount: Int,
        number: Int
    ) {
        self.kind = kind
        self.context = context
        range = address..<address + UInt(requested)
        self.byteCount = byteCount
        self.number = number
        shadow = ShadowMemory(range)
    }

    var description: String {
        "\(hex(range.lowerBound)), \(range.count) bytes of \(kind.noun), operation \(number)"
    }
}

/// All memory of an emulator, alive and lately freed.
struct Allocations {
    // Ascending; freed memory is still in here until it is given back to the system.
    private var all: [Allocation] = []
    // Oldest first; kept for a while so that a use after the free is named as such.
    private var quarantine: [Allocation] = []
    private var quarantineBytes = 0
    private static let quarantineBytesMaximum = 64 << 20
    private(set) var deviceBytes: [OpaquePointer: Int] = [:]
    private(set) var pinnedBytes = 0

    /// What is alive.
    var alive: [Allocation] { all.filter { $0.freedBy == nil } }

    /// Allocates memory filled with 0xFF; nil: the system has none.
    mutating func make(
        _ kind: Allocation.Kind, bytes: Int, context: OpaquePointer, number: Int
    ) -> Allocation? {
        let size = (bytes + 511) / 512 * 512
        var address: UnsafeMutableRawPointer?
        guard posix_memalign(&address, 512, size) == 0, let address else { return nil }
        memset(address, 0xFF, size)
        let allocation = Allocation(
            kind: kind, context: context, address: UInt(bitPattern: address), requested: bytes,
            byteCount: size, number: number)
        all.insert(allocation, at: index(after: allocation.range.lowerBound))
        count(allocation, sign: 1)
        return allocation
    }

    /// Ends an allocation's life; its memory goes back to the system some time later.
    ///
    /// - Parameter isBusy: something may still run that touches it: it stays as it is until the end.
    mutating func free(_ allocation: Allocation, number: Int, isBusy: Bool) {
        allocation.freedBy = number
        count(allocation, sign: -1)
        guard !isBusy else { return }
        if let start = pointer(allocation) { memset(start, 0xFF, allocation.byteCount) }
        quarantine.append(allocation)
        quarantineBytes += allocation.byteCount
        while quarantineBytes > Self.quarantineBytesMaximum, let oldest = quarantine.first {
            quarantine.removeFirst()
            quarantineBytes -= oldest.byteCount
            all.removeAll { $0 === oldest }
            Glibc.free(pointer(oldest))
        }
    }

    /// The allocation, dead or alive, that holds `address`.
    func find(_ address: UInt) -> Allocation? {
        let after = index(after: address)
        guard after > 0 else { return nil }
        let candidate = all[after - 1]
        return address < max(candidate.range.upperBound, candidate.range.lowerBound + 1)
            ? candidate : nil
    }

    /// Whether `range` touches memory of the emulator, dead or alive.
    func overlaps(_ range: AddressRange) -> Allocation? {
        if let found = find(range.lowerBound) { return found }
        let after = index(after: range.lowerBound)
        guard after < all.count, all[after].range.lowerBound < range.upperBound else { return nil }
        return all[after]
    }

    /// Gives everything back to the system.
    mutating func drop() {
        for allocation in all { Glibc.free(pointer(allocation)) }
        all = []
        quarantine = []
    }

    private mutating func count(_ allocation: Allocation, sign: Int) {
        switch allocation.kind {
        case .device:
            deviceBytes[allocation.context, default: 0] += sign * allocation.byteCount
        case .pinned: pinnedBytes += sign * allocation.byteCount
        }
    }

    private func pointer(_ allocation: Allocation) -> UnsafeMutableRawPointer? {
        UnsafeMutableRawPointer(bitPattern: allocation.range.lowerBound)
    }

    /// Of the first allocation that starts behind `address`.
    private func index(after address: UInt) -> Int {
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if all[middle].range.lowerBound <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// As findings write an address.
func hex(_ address: UInt) -> String { "0x" + String(address, radix: 16) }

/// As findings write a range.
func hex(_ range: AddressRange) -> String {
    "\(hex(range.lowerBound))..<\(hex(range.upperBound))"
}
