import ExecuTorch
import Foundation
import Recommending

/// `scn.pte` of `cocorr-export scn --target executorch`.
public final class ExecuTorchProgram: Program, @unchecked Sendable {
    private let module: Module
    private let lock = NSLock()

    public init(_ file: URL, _ contract: Contract) throws {
        module = Module(filePath: file.path, loadMode: .mmap)
        for entryPoint in contract.entryPoints { try module.load(entryPoint.name) }
    }

    public func run(_ entryPoint: EntryPoint, _ inputs: [Recommending.Tensor]) throws -> [Recommending.Tensor] {
        lock.lock()
        defer { lock.unlock() }
        let values: [any ValueConvertible] = zip(entryPoint.inputs, inputs).map { spec, input in
            switch input {
            case .ints(let numbers): ExecuTorch.Tensor<Int32>(numbers, shape: spec.shape)
            case .floats(let numbers): ExecuTorch.Tensor<Float>(numbers, shape: spec.shape)
            }
        }
        let outputs: [Value] = try module.execute(entryPoint.name, values)
        return try zip(entryPoint.outputs, outputs).map { spec, value in
            switch spec.type {
            case .int32: .ints(try Self.numbers(value, spec, as: Int32.self))
            case .float32: .floats(try Self.numbers(value, spec, as: Float.self))
            }
        }
    }

    private static func numbers<Number: Scalar>(_ value: Value, _ spec: TensorSpec, as: Number.Type) throws -> [Number] {
        guard let tensor: ExecuTorch.Tensor<Number> = value.tensor() else { throw InvalidInput("\(spec.name) is not \(spec.type)") }
        return tensor.scalars()
    }
}
