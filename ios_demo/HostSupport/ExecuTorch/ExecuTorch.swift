// The interface of the module ExecuTorch (branch swiftpm-1.4.1 of pytorch/executorch) that this package uses, so that
// ScnExecuTorch is compiled on Linux. Written by hand from its signatures: no compiler has compared the two.
import Foundation

public enum ModuleLoadMode: Int, Sendable { case file = 0, mmap, mmapUseMlock, mmapUseMlockIgnoreErrors }
public enum DataType: Sendable { case int, float }
public enum ShapeDynamism: Sendable { case dynamicBound }

public protocol Scalar { static var dataType: DataType { get } }
extension Int32: Scalar { public static var dataType: DataType { .int } }
extension Float: Scalar { public static var dataType: DataType { .float } }

public class Value: NSObject {
    public func tensor<T: Scalar>() -> Tensor<T>? { fatalError("a stand-in") }
}
public protocol ValueConvertible { func asValue() -> Value }
public protocol ValueSequenceConstructible { static func from(_ values: [Value]) throws -> Self }

public final class Tensor<T: Scalar>: Equatable, ValueConvertible, ValueSequenceConstructible {
    public init(
        _ scalars: [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) { fatalError("a stand-in") }
    public func scalars() -> [T] { fatalError("a stand-in") }
    public func asValue() -> Value { fatalError("a stand-in") }
    public static func from(_ values: [Value]) throws -> Self { fatalError("a stand-in") }
    public static func == (lhs: Tensor<T>, rhs: Tensor<T>) -> Bool { fatalError("a stand-in") }
}

open class Module: NSObject {
    public init(filePath: String, loadMode: ModuleLoadMode) {}
    public convenience init(filePath: String) { self.init(filePath: filePath, loadMode: .file) }
    public func load(_ method: String) throws {}
    public func methodNames() throws -> Set<String> { fatalError("a stand-in") }
    public func execute(_ method: String, _ inputs: [ValueConvertible]) throws -> [Value] { fatalError("a stand-in") }
    public func execute(_ method: String, _ inputs: ValueConvertible...) throws -> [Value] { fatalError("a stand-in") }
    public func execute<Output: ValueSequenceConstructible>(_ method: String, _ inputs: [ValueConvertible]) throws -> Output {
        fatalError("a stand-in")
    }
}
