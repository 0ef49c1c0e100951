internal import GeePSDevice

/// Device memory lent outside a placement: pieces of the arena where there is room, memory of their own else.
///
/// First fit; not a hot path.
struct OnDemandPieces {
    private struct Piece {
        var address: UnsafeMutableRawPointer
        var byteCount: Int
        var holders: Int
        /// Its own memory; nil in the arena.
        var own: SharedBuffer?
        /// Taken until everything is forgotten.
        var isReserved = false
    }

    private static let granule = 64
    private var pieces: [Int: Piece] = [:]
    private var next = 0

    /// Takes over memory that is held already.
    mutating func adopt(_ address: UnsafeMutableRawPointer, byteCount: Int, holders: Int) -> Int {
        insert(Piece(address: address, byteCount: byteCount, holders: holders, own: nil))
    }

    /// Leaves memory alone until `removeAll`.
    mutating func reserve(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        insert(
            Piece(
                address: address, byteCount: byteCount, holders: 0, own: nil, isReserved: true))
    }

    /// A piece of the arena at `base`; nil when no gap is large enough.
    mutating func room(
        _ byteCount: Int, in base: UnsafeMutableRawPointer?, of arenaBytes: Int
    ) -> (address: UnsafeMutableRawPointer, index: Int)? {
        guard let base else { return nil }
        var start = base
        for piece in pieces.values.filter({ $0.own == nil }).sorted(by: { $0.address < $1.address })
        {
            if piece.address - start >= byteCount { break }
            let end = piece.address + Self.rounded(piece.byteCount)
            if end > start { start = end }
        }
        guard (base + arenaBytes) - start >= byteCount else { return nil }
        let index = insert(Piece(address: start, byteCount: byteCount, holders: 1, own: nil))
        return (start, index)
    }

    /// A piece with memory of its own.
    mutating func own(
        _ buffer: consuming DeviceBuffer
    ) -> (address: UnsafeMutableRawPointer, index: Int) {
        let own = SharedBuffer(buffer)
        let address = own.address
        let index = insert(
            Piece(address: address, byteCount: own.byteCount, holders: 1, own: own))
        return (address, index)
    }

    /// Another holder for a piece.
    mutating func hold(_ index: Int) -> UnsafeMutableRawPointer {
        guard var piece = pieces[index] else { preconditionFailure("piece \(index) is not lent") }
        piece.holders += 1
        pieces[index] = piece
        return piece.address
    }

    /// Where a piece lies.
    func address(of index: Int) -> UnsafeMutableRawPointer? { pieces[index]?.address }

    /// One holder less.
    ///
    /// - Returns: the address, if it was the last; the memory stays taken until `free`.
    mutating func release(_ index: Int) -> UnsafeMutableRawPointer? {
        guard var piece = pieces[index] else { return nil }
        piece.holders -= 1
        pieces[index] = piece
        return piece.holders == 0 ? piece.address : nil
    }

    /// Lets the memory be used again.
    mutating func free(_ index: Int) { pieces[index] = nil }

    /// Whether something is held.
    var isHeld: Bool { pieces.values.contains { !$0.isReserved } }

    /// Forgets everything; nothing is held any more.
    mutating func removeAll() { pieces = [:] }

    @discardableResult
    private mutating func insert(_ piece: Piece) -> Int {
        pieces[next] = piece
        next += 1
        return next - 1
    }

    private static func rounded(_ bytes: Int) -> Int {
        max(granule, (bytes + granule - 1) / granule * granule)
    }
}
