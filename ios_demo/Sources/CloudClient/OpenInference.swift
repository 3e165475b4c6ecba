import Foundation
import Recommending

/// Bodies of the Open Inference Protocol v2 with binary tensors.
enum OpenInference {
    static let jsonBytes = "Inference-Header-Content-Length"

    struct Malformed: Error, CustomStringConvertible {
        let description: String
    }

    private struct Tensor: Codable {
        var name: String
        var datatype: String
        var shape: [Int]
        var parameters: [String: Int]?
    }

    private struct Request: Encodable {
        let inputs: [Tensor]
        let parameters: [String: Bool]
    }

    private struct Answer: Decodable {
        let outputs: [Tensor]
    }

    private struct Metadata: Decodable {
        let inputs: [Tensor]
        let outputs: [Tensor]
    }

    private static let types: [ElementType: String] = [.float32: "FP32", .int32: "INT32"]

    /// A request of one user for every output in binary.
    static func request(_ spec: TensorSpec, _ input: Recommending.Tensor) throws -> (body: Data, jsonBytes: Int) {
        let tensor = Tensor(
            name: spec.name, datatype: types[spec.type] ?? "", shape: spec.shape, parameters: ["binary_data_size": 4 * input.count])
        var body = try JSONEncoder().encode(Request(inputs: [tensor], parameters: ["binary_data_output": true]))
        let jsonBytes = body.count
        let bits: [UInt32] =
            switch input {
            case .ints(let values): values.map { UInt32(bitPattern: $0) }
            case .floats(let values): values.map(\.bitPattern)
            }
        for value in bits { withUnsafeBytes(of: value.littleEndian) { body.append(contentsOf: $0) } }
        return (body, jsonBytes)
    }

    /// The tensors of an answer, in the order of `outputs`.
    static func answer(_ body: Data, jsonBytes: Int, outputs: [TensorSpec]) throws -> [[Float]] {
        guard jsonBytes > 0, jsonBytes <= body.count else { throw Malformed(description: "an answer without binary tensors") }
        var rest = body.dropFirst(jsonBytes)
        var found: [String: [Float]] = [:]
        for output in try JSONDecoder().decode(Answer.self, from: body.prefix(jsonBytes)).outputs {
            guard let spec = outputs.first(where: { $0.name == output.name }) else { continue }
            guard output.parameters?["binary_data_size"] == 4 * spec.count, output.shape == spec.shape, rest.count >= 4 * spec.count
            else { throw Malformed(description: "'\(spec.name)' is not \(spec.shape) of float32") }
            found[spec.name] = floats(rest.prefix(4 * spec.count))
            rest = rest.dropFirst(4 * spec.count)
        }
        guard rest.isEmpty else { throw Malformed(description: "\(rest.count) bytes too many") }
        return try outputs.map { spec in
            guard let values = found[spec.name] else { throw Malformed(description: "no '\(spec.name)' in the answer") }
            guard values.allSatisfy({ $0.isFinite }) else {
                throw Malformed(description: "'\(spec.name)' has values that are not finite")
            }
            return values
        }
    }

    /// What the metadata of a model say that it takes and gives, for one user.
    static func contract(_ body: Data) throws -> CloudContract {
        let metadata = try JSONDecoder().decode(Metadata.self, from: body)
        guard let input = metadata.inputs.first, metadata.inputs.count == 1 else {
            throw Malformed(description: "the server's model takes \(metadata.inputs.count) inputs")
        }
        return CloudContract(input: try spec(input), outputs: try metadata.outputs.map(spec))
    }

    private static func spec(_ tensor: Tensor) throws -> TensorSpec {
        guard let type = types.first(where: { $0.value == tensor.datatype })?.key else {
            throw Malformed(description: "'\(tensor.name)' is \(tensor.datatype)")
        }
        return TensorSpec(name: tensor.name, type: type, shape: [1] + tensor.shape.dropFirst())
    }

    private static func floats(_ bytes: Data) -> [Float] {
        bytes.withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
    }
}
