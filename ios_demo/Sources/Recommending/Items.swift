import Foundation

/// The items of a model: the app's own ids, titles, and the program's ids, which are places in the list from 1.
public struct Items: Sendable {
    private struct File: Decodable {
        let model_sha256: String
        let items: [[String]]
    }

    private let keys: [String]
    private let titles: [String]
    private let ids: [String: Int32]

    public init(keys: [String], titles: [String]) {
        (self.keys, self.titles) = (keys, titles)
        ids = Dictionary(zip(keys, Int32(1)...), uniquingKeysWith: { first, _ in first })
    }

    /// Reads `items.json` of a bundle.
    ///
    /// - Parameter modelSha256: `model.sha256` of the manifest: items of another model would be other films.
    public init(json: Data, modelSha256: String) throws {
        let file = try JSONDecoder().decode(File.self, from: json)
        guard file.model_sha256 == modelSha256 else {
            throw InvalidInput("items of model \(file.model_sha256.prefix(16)), the program is of model \(modelSha256.prefix(16))")
        }
        self.init(keys: file.items.map { $0.first ?? "" }, titles: file.items.map { $0.last ?? "" })
    }

    public var count: Int { keys.count }

    /// The program's id of the app's item, or nil for an item that the model does not know.
    public func id(_ key: String) -> Int32? { ids[key] }

    public func key(_ id: Int32) -> String { keys[Int(id) - 1] }

    public func title(_ id: Int32) -> String { titles[Int(id) - 1] }
}
