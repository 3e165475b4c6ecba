#if canImport(CoreML)
import CoreML
import Foundation
import Recommending

/// `scn.mlpackage` of `cocorr-export scn --target coreml`, as Xcode compiles it; each entry point is a function.
public final class CoreMLProgram: Program, @unchecked Sendable {
    private let functions: [String: MLModel]
    private let lock = NSLock()

    /// - Parameter compiled: the `.mlmodelc`.
    public init(_ compiled: URL, _ contract: Contract) throws {
        functions = try Dictionary(
            uniqueKeysWithValues: contract.entryPoints.map { entryPoint in
                let settings = MLModelConfiguration()
                settings.functionName = entryPoint.name
                return (entryPoint.name, try MLModel(contentsOf: compiled, configuration: settings))
            })
    }

    public func run(_ entryPoint: EntryPoint, _ inputs: [Tensor]) throws -> [Tensor] {
        lock.lock()
        defer { lock.unlock() }
        guard let function = functions[entryPoint.name] else { throw InvalidInput("no function \(entryPoint.name)") }
        let pairs = try zip(entryPoint.inputs, inputs).map { spec, input in (spec.name, try Self.array(spec, input)) }
        let outputs = try function.prediction(from: MLDictionaryFeatureProvider(dictionary: Dictionary(uniqueKeysWithValues: pairs)))
        return try entryPoint.outputs.map { spec in
            guard let array = outputs.featureValue(for: spec.name)?.multiArrayValue, array.count == spec.count else {
                throw InvalidInput("\(entryPoint.name) gave no \(spec.name)")
            }
            // Through numbers: an array may have strides, and float16 elements.
            switch spec.type {
            case .int32: return .ints((0..<array.count).map { array[$0].int32Value })
            case .float32: return .floats((0..<array.count).map { array[$0].floatValue })
            }
        }
    }

    private static func array(_ spec: TensorSpec, _ tensor: Tensor) throws -> MLMultiArray {
        let shape = spec.shape.map { NSNumber(value: $0) }
        switch tensor {
        case .ints(let values):
            let array = try MLMultiArray(shape: shape, dataType: .int32)
            array.withUnsafeMutableBufferPointer(ofType: Int32.self) { buffer, _ in _ = buffer.update(fromContentsOf: values) }
            return array
        case .floats(let values):
            let array = try MLMultiArray(shape: shape, dataType: .float32)
            array.withUnsafeMutableBufferPointer(ofType: Float.self) { buffer, _ in _ = buffer.update(fromContentsOf: values) }
            return array
        }
    }
}
#endif
