/// The clicks of one user by the app's own item ids, oldest first. Items that the model does not know are kept, for a
/// model that will, and left out of what the program gets.
public struct History: Sendable {
    /// The clicks, oldest first.
    public private(set) var keys: [String] = []
    private let items: Items
    private let limit: Int

    /// - Parameter limit: how many clicks are kept.
    public init(_ items: Items, limit: Int = 200) { (self.items, self.limit) = (items, limit) }

    public var isEmpty: Bool { known.isEmpty }

    public mutating func append(_ key: String) {
        keys.append(key)
        if keys.count > limit { keys.removeFirst(keys.count - limit) }
    }

    /// The last `length` known clicks, oldest first, padded with 0 on the right.
    public func ids(_ length: Int) -> [Int32] {
        let last = known.suffix(length)
        return last + [Int32](repeating: 0, count: length - last.count)
    }

    private var known: [Int32] { keys.compactMap(items.id) }
}
