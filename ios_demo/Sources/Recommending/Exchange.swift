/// One upload and what becomes of it: no clock, no network.
public struct Exchange: Sendable {
    public enum State: String, Sendable { case waiting, answered, failed, fused, alone, late, reranked }

    public private(set) var state = State.waiting
    private var correction: Correction?

    public init() {}

    /// The answer is here.
    public mutating func answer(_ correction: Correction) {
        switch state {
        case .waiting: state = .answered
        case .alone: state = .late
        default: return
        }
        self.correction = correction
    }

    /// There will be no answer.
    public mutating func fail() { if state == .waiting { state = .failed } }

    /// The correction is needed now: it, or nil to rank alone.
    public mutating func take() throws -> Correction? {
        guard [.waiting, .answered, .failed].contains(state) else { throw InvalidInput("this exchange is over: \(state.rawValue)") }
        state = correction == nil ? .alone : .fused
        return taken()
    }

    /// The answer that came after the ranking, once; nil if none has.
    public mutating func takeLate() -> Correction? {
        guard state == .late else { return nil }
        state = .reranked
        return taken()
    }

    private mutating func taken() -> Correction? {
        defer { correction = nil }
        return correction
    }
}
