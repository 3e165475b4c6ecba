import CScnHost
import Foundation
import Recommending

/// An exported `.pte` on a computer, through mobile_host.
public final class HostProgram: Program, @unchecked Sendable {
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    private let program: OpaquePointer
    private let lock = NSLock()

    public init(_ path: String) throws {
        var error = [CChar](repeating: 0, count: 512)
        guard let program = scn_open(path, 1, &error, error.count) else { throw Self.failure(error) }
        self.program = program
    }

    deinit { scn_close(program) }

    public func run(_ entryPoint: EntryPoint, _ inputs: [Tensor]) throws -> [Tensor] {
        lock.lock()
        defer { lock.unlock() }
        let given = inputs.map(Buffer.init), taken = entryPoint.outputs.map { Buffer(count: $0.count) }
        var error = [CChar](repeating: 0, count: 512)
        let code = scn_run(
            program, entryPoint.name, given.map { UnsafeRawPointer($0.start) }, given.map(\.bytes), Int32(given.count),
            taken.map { UnsafeMutableRawPointer($0.start) }, taken.map(\.bytes), Int32(taken.count), &error, error.count)
        guard code == 0 else { throw Self.failure(error) }
        return zip(entryPoint.outputs, taken).map { spec, buffer in
            spec.type == .int32 ? .ints(buffer.numbers()) : .floats(buffer.numbers())
        }
    }

    private static func failure(_ text: [CChar]) -> Failure {
        Failure(description: String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self))
    }

    /// Memory of a tensor, for as long as it is referred to.
    private final class Buffer {
        let start: UnsafeMutableRawPointer
        let bytes: Int

        init(count: Int) {
            bytes = 4 * count
            start = .allocate(byteCount: bytes, alignment: 64)
        }

        convenience init(_ tensor: Tensor) {
            self.init(count: tensor.count)
            switch tensor {
            case .ints(let values): start.initializeMemory(as: Int32.self, from: values, count: values.count)
            case .floats(let values): start.initializeMemory(as: Float.self, from: values, count: values.count)
            }
        }

        deinit { start.deallocate() }

        func numbers<Number>() -> [Number] {
            Array(UnsafeRawBufferPointer(start: start, count: bytes).bindMemory(to: Number.self))
        }
    }
}
