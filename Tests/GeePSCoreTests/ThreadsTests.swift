import Glibc
import Synchronization
import Testing

@testable import GeePSCore

/// Counts how many of its kind are alive.
private struct Token: ~Copyable {
    let number: Int
    let alive: Counter

    init(_ number: Int, _ alive: Counter) {
        self.number = number
        self.alive = alive
        alive.add(1)
    }

    deinit { alive.add(-1) }
}

private final class Counter: Sendable {
    private let count = Atomic<Int>(0)

    func add(_ difference: Int) { count.wrappingAdd(difference, ordering: .relaxed) }
    var value: Int { count.load(ordering: .relaxed) }
}

private func receivedNumber(_ mailbox: Mailbox<Token>) -> Int? {
    guard let token = mailbox.receive() else { return nil }
    return token.number
}

@Suite struct MailboxTests {
    @Test func elementsComeOutInTheirOrder() {
        let mailbox = Mailbox<Int>(capacity: 3)
        let sender = DedicatedThread(name: "sender") {
            for number in 0..<2000 { mailbox.send(number) }
            mailbox.close()
        }
        var received: [Int] = []
        while let number = mailbox.receive() { received.append(number) }
        sender.join()
        #expect(received == Array(0..<2000))
    }

    @Test func manySendersLoseNothing() {
        let mailbox = Mailbox<Int>(capacity: 4)
        let senders = (0..<4).map { sender in
            DedicatedThread(name: "sender") {
                for number in 0..<500 { mailbox.send(sender * 1000 + number) }
            }
        }
        var last = [Int](repeating: -1, count: 4)
        for _ in 0..<2000 {
            guard let value = mailbox.receive() else { break }
            #expect(value % 1000 == last[value / 1000] + 1)
            last[value / 1000] = value % 1000
        }
        for sender in senders { sender.join() }
        #expect(last == [499, 499, 499, 499])
        #expect(mailbox.receive(deadline: .after(.zero)) == nil)
    }

    @Test func afterCloseWhatIsInsideStillComesOut() {
        let mailbox = Mailbox<Int>(capacity: 2)
        #expect(mailbox.send(1))
        #expect(!mailbox.closed)
        mailbox.close()
        mailbox.close()
        #expect(mailbox.closed)
        #expect(!mailbox.send(2))
        #expect(mailbox.receive() == 1)
        #expect(mailbox.receive() == nil)
    }

    @Test func closeWakesWhoWaits() {
        let empty = Mailbox<Int>(capacity: 1)
        let full = Mailbox<Int>(capacity: 1)
        full.send(0)
        let results = Mutex<[Bool]>([])
        let receiver = DedicatedThread(name: "receiver") {
            let isNil = empty.receive() == nil
            results.withLock { $0.append(isNil) }
        }
        let sender = DedicatedThread(name: "sender") {
            let isSent = full.send(1)
            results.withLock { $0.append(!isSent) }
        }
        usleep(20_000)
        empty.close()
        full.close()
        receiver.join()
        sender.join()
        #expect(results.withLock { $0 } == [true, true])
    }

    @Test func aSenderThatFindsItFullIsCounted() {
        let mailbox = Mailbox<Int>(capacity: 1)
        mailbox.send(1)
        #expect(mailbox.fullWaits == 0)
        let sender = DedicatedThread(name: "sender") { mailbox.send(2) }
        while mailbox.fullWaits == 0 { usleep(100) }
        #expect(mailbox.receive() == 1)
        sender.join()
        #expect(mailbox.receive() == 2)
        #expect(mailbox.fullWaits == 1)
    }

    @Test func receiveGivesUpAtItsDeadline() {
        let mailbox = Mailbox<Int>(capacity: 1)
        let deadline = Deadline.after(.milliseconds(20))
        #expect(mailbox.receive(deadline: deadline) == nil)
        #expect(deadline.hasPassed && deadline.remainingNanoseconds == 0)
    }

    @Test func noncopyableElementsAreDroppedExactlyOnce() {
        let alive = Counter()
        do {
            let mailbox = Mailbox<Token>(capacity: 4)
            for number in 0..<4 { mailbox.send(Token(number, alive)) }
            // Goes round the end of the slots.
            for number in 0..<2 {
                #expect(receivedNumber(mailbox) == number)
                mailbox.send(Token(number + 4, alive))
            }
            #expect(alive.value == 4)
            mailbox.close()
            let isSent = mailbox.send(Token(9, alive))
            #expect(!isSent)
            #expect(alive.value == 4)
        }
        #expect(alive.value == 0)
    }
}

@Suite struct DedicatedThreadTests {
    @Test func joinWaitsForTheBodyAndMayBeRepeated() {
        let counter = Counter()
        let thread = DedicatedThread(name: "worker") {
            usleep(20_000)
            counter.add(1)
        }
        thread.join()
        #expect(counter.value == 1)
        thread.join()
        #expect(thread.name == "worker")
    }

    @Test func theSystemKnowsItsName() {
        let name = Mutex<String>("")
        let thread = DedicatedThread(name: "a name of more than 15 bytes") {
            let file = open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC)
            var bytes = [UInt8](repeating: 0, count: 32)
            let count = max(0, read(file, &bytes, bytes.count))
            close(file)
            let text = String(decoding: bytes[..<count], as: UTF8.self)
            name.withLock { $0 = text }
        }
        thread.join()
        #expect(name.withLock { $0 } == "a name of more \n")
    }

    @Test func whatTheBodyHoldsIsLetGo() {
        let alive = Counter()
        final class Held: Sendable {
            let alive: Counter
            init(_ alive: Counter) {
                self.alive = alive
                alive.add(1)
            }
            deinit { alive.add(-1) }
        }
        do {
            let held = Held(alive)
            DedicatedThread(name: "holder") { held.alive.add(0) }.join()
        }
        #expect(alive.value == 0)
    }
}

@Suite struct SignalTests {
    @Test func aWaiterWakesForTheNewsOrAtItsDeadline() {
        let signal = Signal()
        let isReady = Mutex(false)
        let thread = DedicatedThread(name: "waker") {
            usleep(10_000)
            isReady.withLock { $0 = true }
            signal.withLock { signal.wakeAll() }
        }
        signal.withLock {
            while !isReady.withLock({ $0 }) { _ = signal.wait() }
        }
        thread.join()
        let deadline = Deadline.after(.milliseconds(10))
        signal.withLock {
            while signal.wait(until: deadline) {}
        }
        #expect(deadline.hasPassed)
    }
}
