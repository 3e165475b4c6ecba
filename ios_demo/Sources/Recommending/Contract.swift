import Foundation

public enum ElementType: String, Sendable, Codable {
    case float32, int32
}

/// One input or output of an entry point.
public struct TensorSpec: Sendable, Hashable {
    public let name: String
    public let type: ElementType
    public let shape: [Int]

    public init(name: String, type: ElementType, shape: [Int]) {
        (self.name, self.type, self.shape) = (name, type, shape)
    }

    public var count: Int { shape.reduce(1, *) }
}

extension TensorSpec: Decodable {
    private enum CodingKeys: String, CodingKey {
        case name, shape, type = "dtype"
    }
}

/// One function of the exported program; inputs and outputs in the order in which they are passed.
public struct EntryPoint: Sendable, Decodable {
    public let name: String
    public let inputs: [TensorSpec]
    public let outputs: [TensorSpec]

    public init(name: String, inputs: [TensorSpec], outputs: [TensorSpec]) {
        (self.name, self.inputs, self.outputs) = (name, inputs, outputs)
    }
}

/// What the exported program takes and gives, as its manifest says it.
public struct Contract: Sendable {
    /// Which weights it has: a server of other weights refuses it.
    public let version: String
    /// Item ids are 1 to `vocabSize` - 1; 0 is padding.
    public let vocabSize: Int
    /// Clicks that the program reads.
    public let sequenceLength: Int
    /// Candidates of one call.
    public let candidates: Int
    /// The tensors of a correction; empty if the program takes none.
    public let correction: [TensorSpec]
    /// All of them, in the order of the manifest.
    public let entryPoints: [EntryPoint]

    public init(version: String, vocabSize: Int, entryPoints: [EntryPoint]) throws {
        func count(of input: String) throws -> Int {
            guard let spec = entryPoints.first(where: { $0.name == "rank" })?.inputs.first(where: { $0.name == input }) else {
                throw InvalidInput("this program cannot rank: its entry points are \(entryPoints.map(\.name))")
            }
            return spec.count
        }
        self.version = version
        self.vocabSize = vocabSize
        self.entryPoints = entryPoints
        sequenceLength = try count(of: "ids")
        candidates = try count(of: "candidates")
        let corrected = entryPoints.first { $0.name == "rank_corrected" }?.inputs ?? []
        correction = corrected.filter { !["ids", "candidates"].contains($0.name) }
    }

    /// Reads `manifest.json` of an export.
    public init(manifest: Data, vocabSize: Int) throws {
        let manifest = try JSONDecoder().decode(Manifest.self, from: manifest)
        try self.init(
            version: String(manifest.model.sha256.prefix(16)), vocabSize: vocabSize, entryPoints: manifest.entry_points)
    }

    public func has(_ name: String) -> Bool { entryPoints.contains { $0.name == name } }

    public func entryPoint(_ name: String) throws -> EntryPoint {
        guard let found = entryPoints.first(where: { $0.name == name }) else {
            throw InvalidInput("no entry point '\(name)': this program has \(entryPoints.map(\.name).joined(separator: ", "))")
        }
        return found
    }
}

/// The part of `manifest.json` that an app reads.
public struct Manifest: Decodable, Sendable {
    public struct Model: Decodable, Sendable {
        public let sha256: String
    }

    public struct File: Decodable, Sendable {
        public let path: String
        public let bytes: Int
        public let sha256: String
    }

    public let model: Model
    public let entry_points: [EntryPoint]
    public let files: [File]
}

/// What was asked for cannot be; says what and why.
public struct InvalidInput: Error, CustomStringConvertible, Equatable {
    public let description: String

    public init(_ description: String) { self.description = description }
}
