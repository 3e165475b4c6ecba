import CloudClient
import Foundation
import Observation
import Recommending
import ScnExecuTorch
import ScnModel

/// The model, and what the screen shows. The program runs on a queue of `Phone`, off the main thread.
@MainActor @Observable
final class Session {
    private(set) var screen: Screen?
    private(set) var failure: String?
    private var recommender: Recommender?

    /// Loads the model and ranks, once in the life of the process.
    func start(clicks: [String], server: URL?) async {
        guard recommender == nil else { return }
        await attempt {
            let recommender = try Self.load { screen in Task { @MainActor in self.screen = screen } }
            self.recommender = recommender
            try await recommender.start(clicks: clicks, server: server)
        }
    }

    func click(_ key: String) async { await attempt { try await recommender?.click(key) } }

    /// - Parameter server: nil to rank alone.
    func useCloud(_ server: URL?) async { await attempt { try await recommender?.useCloud(server) } }

    private func attempt(_ work: () async throws -> Void) async {
        do { try await work() } catch { failure = String(describing: error) }
    }

    private static func load(show: @escaping @Sendable (Screen) -> Void) throws -> Recommender {
        let manifest = try Data(contentsOf: ScnModel.manifest)
        try ProgramFile.check(ScnModel.program, manifest: manifest)
        let contract = try Contract(manifest: manifest, vocabSize: ScnModel.vocabSize)
        let modelSha256 = try JSONDecoder().decode(Manifest.self, from: manifest).model.sha256
        let items = try Items(json: Data(contentsOf: ScnModel.items), modelSha256: modelSha256)
        let scn = Scn(try ExecuTorchProgram(ScnModel.program, contract), contract)
        return Recommender(
            scn, items: items, candidates: spread(100, items.count),
            connect: { GcnClient(address: $0, version: contract.version) }, show: show)
    }

    /// Ids from the whole catalogue: where an app would take its list from another stage.
    private static func spread(_ count: Int, _ size: Int) -> [Int32] {
        let count = min(count, size)
        return (0..<count).map { Int32(1 + $0 * size / count) }
    }
}
