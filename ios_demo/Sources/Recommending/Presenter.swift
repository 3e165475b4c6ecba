import Foundation

/// One line of the list.
public struct Line: Sendable, Equatable, Identifiable {
    public let key: String
    public let place: Int
    public let title: String
    public let score: String

    public var id: Int { place }
}

/// Everything that a screen shows, as finished text: a view decides nothing.
public struct Screen: Sendable, Equatable {
    public let clicks: String
    public let status: String
    public let latency: String
    public let counts: String
    public let lines: [Line]
    /// What the app keeps, for `Recommender.start` of its next life.
    public let history: [String]
}

public struct Presenter: Sendable {
    private let items: Items
    private let shown: Int

    public init(_ items: Items, shown: Int = 10) { (self.items, self.shown) = (items, shown) }

    public func screen(_ history: History, _ ranking: Ranking, _ latencies: Latencies, _ counts: Counts) -> Screen {
        Screen(
            clicks: clicks(history),
            status: status(ranking),
            latency: latencies.p50.map { "p50 of the last \(latencies.count): \(millis($0))" } ?? "",
            counts: "sent \(counts.sent), corrected \(counts.fused), alone \(counts.alone) "
                + "(failed \(counts.failed), late \(counts.late))",
            lines: lines(ranking),
            history: history.keys)
    }

    private func clicks(_ history: History) -> String {
        let titles = history.keys.suffix(5).reversed().map { key in items.id(key).map(items.title) ?? "\(key) (unknown)" }
        return titles.isEmpty ? "No clicks yet: tap a film" : titles.joined(separator: ", ")
    }

    private func status(_ ranking: Ranking) -> String {
        if ranking.reranked { return "re-ranked after \(millis(ranking.totalTime))" }
        return "\(ranking.corrected ? "corrected" : "alone") in \(millis(ranking.totalTime))"
    }

    private func lines(_ ranking: Ranking) -> [Line] {
        best(shown, of: ranking.scores).enumerated().map { place, index in
            let id = ranking.candidates[index]
            let score = String(format: "%.3f", Double(ranking.scores[index]))
            return Line(key: items.key(id), place: place + 1, title: items.title(id), score: score)
        }
    }

    private func millis(_ time: Duration) -> String {
        let value = time / .milliseconds(1)
        return String(format: value < 10 ? "%.1f ms" : "%.0f ms", value)
    }
}

/// How long the last calls took.
public struct Latencies: Sendable {
    private var times: [Duration] = []
    private let limit: Int

    public init(limit: Int = 50) { self.limit = limit }

    public var count: Int { times.count }

    /// Their median; nil before the first.
    public var p50: Duration? { times.isEmpty ? nil : times.sorted()[times.count / 2] }

    public mutating func append(_ time: Duration) {
        times.append(time)
        if times.count > limit { times.removeFirst() }
    }
}
