import Dispatch
import Foundation

/// What an app talks to: clicks go in, finished screens come out.
public actor Recommender {
    private let scn: Scn
    private let items: Items
    private let candidates: [Int32]
    private let deadline: DispatchTimeInterval
    private let connect: @Sendable (URL) -> any Cloud
    private let show: @Sendable (Screen) -> Void
    private let presenter: Presenter
    private var history: History
    private var latencies = Latencies()
    private var phone: Phone

    /// - Parameters:
    ///   - candidates: the list to rank, of the program's item ids.
    ///   - connect: a client for the address of a server.
    ///   - show: is called with every new screen.
    public init(
        _ scn: Scn, items: Items, candidates: [Int32], deadline: DispatchTimeInterval = .milliseconds(150),
        connect: @escaping @Sendable (URL) -> any Cloud, show: @escaping @Sendable (Screen) -> Void
    ) {
        (self.scn, self.items, self.candidates, self.deadline) = (scn, items, candidates, deadline)
        (self.connect, self.show) = (connect, show)
        presenter = Presenter(items)
        history = History(items)
        phone = Phone(scn, cloud: nil, deadline: deadline)
    }

    /// Ranks for the clicks of an earlier life of the app; an empty list is a new user.
    public func start(clicks: [String], server: URL?) async throws {
        clicks.forEach { history.append($0) }
        try await useCloud(server)
    }

    public func click(_ key: String) async throws {
        history.append(key)
        try await rank()
    }

    /// - Parameter server: nil to do without a cloud.
    public func useCloud(_ server: URL?) async throws {
        phone = Phone(scn, cloud: server.map(connect), deadline: deadline)
        try await phone.warmUp()
        try await rank()
    }

    private func rank() async throws {
        let ranking = try await phone.rank(history, candidates: unseen) { again in Task { await self.present(again) } }
        latencies.append(ranking.totalTime)
        present(ranking)
    }

    /// The list without what was clicked, as long as anything is left of it.
    private var unseen: [Int32] {
        let clicked = Set(history.keys)
        let unseen = candidates.filter { !clicked.contains(items.key($0)) }
        return unseen.isEmpty ? candidates : unseen
    }

    private func present(_ ranking: Ranking) { show(presenter.screen(history, ranking, latencies, phone.counts)) }
}
