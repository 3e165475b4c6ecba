import Foundation

/// A history of any length at a constant cost per click: the program's `step` learns from each click, and what it has
/// learned is a few kilobytes that the app keeps. `Scn.score` ranks with `user`.
public struct Stream: Sendable {
    /// The user after the last click; nil before the first.
    public private(set) var user: [Float]?
    private var state: [Tensor]
    private let scn: Scn
    private let step: EntryPoint

    private struct Saved: Codable {
        let version: String
        let state: [[UInt32]]
        let user: [UInt32]?
    }

    /// A new stream: zeros with position -1, from which the program starts with its learned weights.
    public init(_ scn: Scn) throws {
        self.scn = scn
        step = try scn.contract.entryPoint("step")
        state = Self.specs(step).map { spec in
            spec.type == .int32 ? .ints(.init(repeating: -1, count: spec.count)) : .floats(.init(repeating: 0, count: spec.count))
        }
    }

    /// A stream that resumes where `save` was called.
    ///
    /// - Throws: if the bytes are of other weights, or damaged: start a new stream and click again.
    public init(_ scn: Scn, restoring saved: Data) throws {
        try self.init(scn)
        let saved = try PropertyListDecoder().decode(Saved.self, from: saved)
        guard saved.version == scn.contract.version else {
            throw InvalidInput("a stream of version \(saved.version), the program is \(scn.contract.version)")
        }
        let specs = Self.specs(step)
        guard saved.state.map(\.count) == specs.map(\.count) else { throw InvalidInput("a stream of another size") }
        state = zip(specs, saved.state).map { spec, bits in
            spec.type == .int32 ? .ints(bits.map(Int32.init(bitPattern:))) : .floats(bits.map(Float.init(bitPattern:)))
        }
        user = saved.user?.map(Float.init(bitPattern:))
        for case .floats(let values) in state + [.floats(user ?? [])] { try Border.check(finite: values, "stream") }
    }

    public mutating func click(_ item: Int32) throws {
        let outputs = try scn.step(item: item, state: state)
        let byName = Dictionary(uniqueKeysWithValues: zip(step.outputs.map(\.name), outputs))
        let next = Self.specs(step).compactMap { byName[$0.name + "_next"] }
        guard next.count == state.count, let user = byName["user"] else { throw InvalidInput("step gave no state") }
        (state, self.user) = (next, try user.floats("user"))
    }

    /// What `init(_:restoring:)` takes, for the app to keep across the death of its process.
    public func save() throws -> Data {
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        return try encoder.encode(Saved(version: scn.contract.version, state: state.map(Self.bits), user: user.map { Self.bits(.floats($0)) }))
    }

    private static func specs(_ step: EntryPoint) -> [TensorSpec] { step.inputs.filter { $0.name != "item" } }

    private static func bits(_ tensor: Tensor) -> [UInt32] {
        switch tensor {
        case .ints(let values): values.map(UInt32.init(bitPattern:))
        case .floats(let values): values.map(\.bitPattern)
        }
    }
}
