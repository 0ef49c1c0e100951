import GeePSDevice
import Glibc

/// Writes spans as trace events that Perfetto and `chrome://tracing` read.
///
/// The form is Google's *Trace Event Format*: complete events ("ph": "X"), one process, one thread a track.
enum ChromeTrace {
    /// Writes `spans` to `path`, piece by piece.
    ///
    /// Times count from the earliest span; tracks are numbered in the order they first appear.
    ///
    /// - Throws: `CLIError` that says what the system answered.
    static func write(
        _ spans: [Timeline.Span], processName: String, processID: Int, to path: String
    ) throws(CLIError) {
        guard let file = fopen(path, "w") else {
            throw CLIError(.cannotOpen, "cannot create trace \(path): \(lastError())")
        }
        let isWritten = put(spans, processName: processName, processID: processID, into: file)
        let reason = lastError()
        guard fclose(file) == 0, isWritten else {
            throw CLIError(.inputOutput, "cannot write trace \(path): \(reason)")
        }
    }

    private static func put(
        _ spans: [Timeline.Span], processName: String, processID: Int,
        into file: UnsafeMutablePointer<FILE>
    ) -> Bool {
        let start = spans.map(\.startNanoseconds).min() ?? 0
        var threads: [String: Int] = [:]
        var isWritten =
            fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", file) >= 0
            && fputs(name("process_name", processName, processID, thread: 0).text, file) >= 0
        for span in spans {
            var events: [JSONValue] = []
            let known = threads[span.track]
            let thread = known ?? threads.count + 1
            if known == nil {
                threads[span.track] = thread
                events.append(name("thread_name", span.track, processID, thread: thread))
            }
            events.append(event(span, processID, thread: thread, from: start))
            for event in events where isWritten {
                isWritten = fputs(",\n" + event.text, file) >= 0
            }
        }
        return isWritten && fputs("\n]}\n", file) >= 0
    }

    private static func name(
        _ kind: String, _ name: String, _ process: Int, thread: Int
    ) -> JSONValue {
        .object([
            "ph": .string("M"), "name": .string(kind), "pid": .integer(Int64(process)),
            "tid": .integer(Int64(thread)), "args": .object(["name": .string(name)]),
        ])
    }

    private static func event(
        _ span: Timeline.Span, _ process: Int, thread: Int, from start: UInt64
    ) -> JSONValue {
        let length = span.endNanoseconds - min(span.startNanoseconds, span.endNanoseconds)
        let name = span.label.isEmpty ? span.operation : span.label
        let event: [JSONValue.Member] = [
            .init(key: "ph", value: .string("X")), .init(key: "name", value: .string(name)),
            .init(key: "cat", value: .string(span.operation)),
            .init(key: "pid", value: .integer(Int64(process))),
            .init(key: "tid", value: .integer(Int64(thread))),
            .init(key: "ts", value: microseconds(span.startNanoseconds - start)),
            .init(key: "dur", value: microseconds(length)),
        ]
        guard span.byteCount > 0 else { return .object(event) }
        let bytes: JSONValue = .object(["bytes": .integer(Int64(span.byteCount))])
        return .object(event + [.init(key: "args", value: bytes)])
    }

    /// With three decimals, so that no nanosecond is lost.
    private static func microseconds(_ nanoseconds: UInt64) -> JSONValue {
        .fixed(thousandths: nanoseconds)
    }
}
