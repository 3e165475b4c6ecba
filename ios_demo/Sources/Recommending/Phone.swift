import Dispatch
import Foundation

/// What became of the rankings of one phone.
public struct Counts: Sendable, Equatable, Decodable {
    public var sent = 0
    public var fused = 0
    public var alone = 0
    /// Of those alone: the cloud gave an error, or could not be reached.
    public var failed = 0
    /// Of those alone: the answer came after all.
    public var late = 0
    /// Of those late: the list was ranked again with the answer.
    public var reranked = 0

    public init() {}
}

/// Scores in the order of the candidates, and where the time went.
public struct Ranking: Sendable {
    public let candidates: [Int32]
    public let scores: [Float]
    /// Whether the cloud's answer is in the scores.
    public let corrected: Bool
    /// Whether these scores replace ones that were shown before.
    public let reranked: Bool
    public let waitTime: Duration
    public let rankTime: Duration
    /// From the call until the scores were there.
    public let totalTime: Duration
}

/// An app's re-ranker: it sends what the cloud needs, waits until the deadline at most, and ranks with what is there. An
/// answer that comes later ranks the list again, unless a newer list was asked for.
///
/// The program and the wait have a queue of their own: on the pool of Swift's tasks, which has one thread per core, other
/// work can keep a deadline from being held.
public final class Phone: Sendable {
    private let scn: Scn
    private let cloud: (any Cloud)?
    private let deadline: DispatchTimeInterval
    private let model = DispatchQueue(label: "org.cocorrrec.model", qos: .userInitiated)
    private let state = Locked(Shared())

    private struct Shared: Sendable {
        var counts = Counts()
        var newest: Call?
    }

    /// - Parameters:
    ///   - cloud: nil to rank alone.
    ///   - deadline: from the upload until the correction is needed.
    public init(_ scn: Scn, cloud: (any Cloud)?, deadline: DispatchTimeInterval) {
        (self.scn, self.cloud, self.deadline) = (scn, cloud, deadline)
    }

    public var counts: Counts { state.with { $0.counts } }

    /// Runs the program and opens the connection once, so that the first ranking does not pay for it.
    public func warmUp() async throws {
        async let connected = cloud?.contract()
        let ids = [Int32](repeating: 0, count: scn.contract.sequenceLength)
        try await onModel { [scn] in
            _ = try scn.rank(ids: ids, candidates: [1])
            if scn.contract.has("encode") { _ = try scn.encode(ids: ids) }
        }
        // Whatever is wrong with the cloud, the first exchange meets it too, and counts it.
        _ = try? await connected
    }

    /// - Parameter onReranked: is called if the answer comes after the deadline.
    public func rank(
        _ history: History, candidates: [Int32], onReranked: @escaping @Sendable (Ranking) -> Void = { _ in }
    ) async throws -> Ranking {
        try await onModel { try self.rankNow(history, candidates, onReranked) }
    }

    private func rankNow(
        _ history: History, _ candidates: [Int32], _ onReranked: @escaping @Sendable (Ranking) -> Void
    ) throws -> Ranking {
        let start = ContinuousClock.now
        let ids = history.ids(scn.contract.sequenceLength)
        let call = Call()
        state.with { $0.newest = call }
        if let cloud, !history.isEmpty, !scn.contract.correction.isEmpty {
            try send(cloud, history, ids, call) { [scn] correction in
                self.count { $0.reranked += 1 }
                if let ranking = try? Self.fuse(scn, ids, candidates, correction, start, reranked: true) { onReranked(ranking) }
            }
            if call.exchange.with({ $0.state }) == .failed { count { $0.failed += 1 } }
        } else {
            call.exchange.with { $0.fail() }
        }
        let correction = try call.exchange.with { try $0.take() }
        count { counts in if correction == nil { counts.alone += 1 } else { counts.fused += 1 } }
        return try Self.fuse(scn, ids, candidates, correction, start, reranked: false)
    }

    private static func fuse(
        _ scn: Scn, _ ids: [Int32], _ candidates: [Int32], _ correction: Correction?, _ start: ContinuousClock.Instant,
        reranked: Bool
    ) throws -> Ranking {
        let needed = ContinuousClock.now
        let scores = try scn.rank(ids: ids, candidates: candidates, correction: correction)
        let end = ContinuousClock.now
        return Ranking(
            candidates: candidates, scores: scores, corrected: correction != nil, reranked: reranked,
            waitTime: needed - start, rankTime: end - needed, totalTime: end - start)
    }

    /// Sends, and waits until the deadline at most.
    private func send(
        _ cloud: any Cloud, _ history: History, _ ids: [Int32], _ call: Call,
        late: @escaping @Sendable (Correction) -> Void
    ) throws {
        let encoded = scn.contract.has("encode") ? Tensor.floats(try scn.encode(ids: ids)) : nil
        count { $0.sent += 1 }
        let until = DispatchTime.now() + deadline
        Task {
            let answer: Correction?
            do { answer = try await ask(cloud, history, encoded) } catch { answer = nil }
            let isLate = call.exchange.with { exchange in
                if let answer { exchange.answer(answer) } else { exchange.fail() }
                return exchange.state == .late
            }
            call.settled.signal()
            guard isLate else { return }
            count { $0.late += 1 }
            model.async {
                guard self.state.with({ $0.newest === call }) else { return }
                call.exchange.with { $0.takeLate() }.map(late)
            }
        }
        _ = call.settled.wait(timeout: until)
    }

    private func ask(_ cloud: any Cloud, _ history: History, _ encoded: Tensor?) async throws -> Correction {
        let contract = try await cloud.contract()
        try contract.check(scn.contract)
        let answer = try await cloud.correct(encoded ?? .ints(history.ids(contract.input.count)))
        let byName = Dictionary(uniqueKeysWithValues: zip(contract.outputs.map(\.name), answer))
        return Correction(scn.contract.correction.compactMap { byName[$0.name] })
    }

    private func onModel<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            model.async { continuation.resume(with: Result { try work() }) }
        }
    }

    private func count(_ change: (inout Counts) -> Void) { state.with { change(&$0.counts) } }

    private final class Call: Sendable {
        let exchange = Locked(Exchange())
        let settled = DispatchSemaphore(value: 0)
    }
}

/// A value behind a lock.
public final class Locked<Value: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    public init(_ value: Value) { self.value = value }

    public func with<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        lock.lock()
        defer { lock.unlock() }
        return try body(&value)
    }
}
