/// The numbers of one tensor, row by row.
public enum Tensor: Sendable, Equatable {
    case ints([Int32])
    case floats([Float])

    public var count: Int {
        switch self {
        case .ints(let values): values.count
        case .floats(let values): values.count
        }
    }

    func floats(_ name: String) throws -> [Float] {
        guard case .floats(let values) = self else { throw InvalidInput("\(name) is not of float32") }
        return values
    }
}

/// An exported program, whatever runtime it is on. Its calls do not overlap.
public protocol Program: Sendable {
    /// Runs an entry point; inputs and outputs are in the order of its contract, and of its sizes.
    func run(_ entryPoint: EntryPoint, _ inputs: [Tensor]) throws -> [Tensor]
}
