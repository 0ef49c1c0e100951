import Synchronization

/// What happened when: spans of work, a track for each stream or thread.
///
/// Off until `isRecording` is set; then a span costs two looks at the clock and an uncontended lock. A
/// track keeps its first spans; what does not fit is counted.
public final class Timeline: Sendable {
    /// One stretch of work, in nanoseconds of the monotonic clock.
    public struct Span: Hashable, Sendable {
        /// The stream or thread.
        public var track: String
        /// What kind of work: `copy host to device`, `kernel`, `wait`.
        public var operation: String
        /// What the work was for, as its caller named it.
        public var label: String
        /// When it began.
        public var startNanoseconds: UInt64
        /// When it was over.
        public var endNanoseconds: UInt64
        /// Bytes copied, zero for other work.
        public var byteCount: Int
    }

    /// The spans of one stream or thread; any thread may add to it.
    public final class Track: Sendable {
        /// As shown in the trace.
        public let name: String
        private let capacity: Int
        private let timeline: Timeline
        private let state: Mutex<State>

        private struct State {
            var spans: [Span] = []
            var dropped = 0
        }

        fileprivate init(name: String, capacity: Int, timeline: Timeline) {
            self.name = name
            self.capacity = capacity
            self.timeline = timeline
            state = Mutex(State())
        }

        /// Whether spans are wanted; look before reading the clock.
        public var isRecording: Bool { timeline.isRecording }

        /// Adds a span.
        public func add(
            operation: String, label: String, startNanoseconds: UInt64, endNanoseconds: UInt64,
            byteCount: Int = 0
        ) {
            guard timeline.isRecording else { return }
            let span = Span(
                track: name, operation: operation, label: label, startNanoseconds: startNanoseconds,
                endNanoseconds: endNanoseconds, byteCount: byteCount)
            state.withLock { state in
                guard state.spans.count < capacity else {
                    state.dropped += 1
                    return
                }
                state.spans.append(span)
            }
        }

        fileprivate var contents: (spans: [Span], dropped: Int) {
            state.withLock { ($0.spans, $0.dropped) }
        }

        fileprivate func clear() { state.withLock { $0 = State() } }
    }

    private let capacityPerTrack: Int
    private let recording: Atomic<Bool>
    private let tracks = Mutex<[Track]>([])

    /// A timeline that keeps at most `capacityPerTrack` spans a track.
    public init(capacityPerTrack: Int = 1 << 16, isRecording: Bool = true) {
        self.capacityPerTrack = capacityPerTrack
        recording = Atomic(isRecording)
    }

    /// Whether spans are kept.
    public var isRecording: Bool {
        // Relaxed: a span more or less around the switch does not matter.
        get { recording.load(ordering: .relaxed) }
        set { recording.store(newValue, ordering: .relaxed) }
    }

    /// Makes a track; streams of a device with this timeline make their own.
    public func makeTrack(name: String) -> Track {
        let track = Track(name: name, capacity: capacityPerTrack, timeline: self)
        tracks.withLock { $0.append(track) }
        return track
    }

    /// Everything kept so far: tracks in the order they were made, each in the order it was added to.
    public var spans: [Span] { tracks.withLock { $0 }.flatMap { $0.contents.spans } }

    /// Spans that found their track full.
    public var droppedSpans: Int {
        tracks.withLock { $0 }.reduce(0) { $0 + $1.contents.dropped }
    }

    /// Forgets the spans; the tracks stay.
    public func clear() {
        for track in tracks.withLock({ $0 }) { track.clear() }
    }
}
