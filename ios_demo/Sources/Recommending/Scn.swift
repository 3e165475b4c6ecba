/// The cloud's answer for one user: the tensors of `Contract.correction`, in that order.
public struct Correction: Sendable, Equatable {
    public let tensors: [[Float]]

    public init(_ tensors: [[Float]]) { self.tensors = tensors }
}

/// The on-device model: every entry point of the exported program by its meaning, with its inputs checked.
///
/// Blocks for as long as the program runs: call it on a queue of your own, not on Swift's thread pool.
public struct Scn: Sendable {
    public let contract: Contract
    private let program: any Program

    public init(_ program: any Program, _ contract: Contract) {
        (self.program, self.contract) = (program, contract)
    }

    /// What goes to a cloud that takes H, `[L, 64]`.
    public func encode(ids: [Int32]) throws -> [Float] {
        try check(ids)
        return try single("encode", [.ints(ids)])
    }

    /// A score for each candidate, with a correction if there is one.
    ///
    /// - Parameters:
    ///   - ids: `History.ids(_:)` of `Contract.sequenceLength`.
    ///   - candidates: any number of item ids: as many calls as the program's fixed number asks for.
    public func rank(ids: [Int32], candidates: [Int32], correction: Correction? = nil) throws -> [Float] {
        try check(ids)
        guard let correction else { return try scores("rank", [.ints(ids)], candidates) }
        guard correction.tensors.count == contract.correction.count else {
            throw InvalidInput("a correction of \(correction.tensors.count) tensors")
        }
        for (spec, values) in zip(contract.correction, correction.tensors) { try Border.check(finite: values, spec.name) }
        return try scores("rank_corrected", [.ints(ids)], candidates, correction.tensors.map { .floats($0) })
    }

    /// A score for each candidate for a user from `Stream`.
    public func score(user: [Float], candidates: [Int32]) throws -> [Float] {
        try Border.check(finite: user, "user")
        return try scores("score", [.floats(user)], candidates)
    }

    /// One click of a stream; see `Stream`.
    func step(item: Int32, state: [Tensor]) throws -> [Tensor] {
        try Border.check(items: [item], "item", vocabSize: contract.vocabSize)
        return try run("step", [.ints([item])] + state)
    }

    private func scores(_ name: String, _ before: [Tensor], _ candidates: [Int32], _ after: [Tensor] = []) throws -> [Float] {
        try Border.check(items: candidates, "candidates", vocabSize: contract.vocabSize)
        var scores: [Float] = []
        for start in stride(from: 0, to: candidates.count, by: contract.candidates) {
            let part = candidates[start..<min(start + contract.candidates, candidates.count)]
            let padded = part + [Int32](repeating: 0, count: contract.candidates - part.count)
            scores += try single(name, before + [.ints(Array(padded))] + after).prefix(part.count)
        }
        return scores
    }

    private func single(_ name: String, _ inputs: [Tensor]) throws -> [Float] {
        let outputs = try run(name, inputs)
        guard let output = outputs.first, outputs.count == 1 else { throw InvalidInput("\(name) gave \(outputs.count) tensors") }
        return try output.floats(name)
    }

    private func run(_ name: String, _ inputs: [Tensor]) throws -> [Tensor] {
        let entryPoint = try contract.entryPoint(name)
        for (spec, input) in zip(entryPoint.inputs, inputs) where input.count != spec.count {
            throw InvalidInput("\(name): \(spec.name) has \(input.count) numbers, expected \(spec.count)")
        }
        return try program.run(entryPoint, inputs)
    }

    private func check(_ ids: [Int32]) throws {
        try Border.check(history: ids, length: contract.sequenceLength, vocabSize: contract.vocabSize)
    }
}

/// Places of the `count` best scores, best first; of equal ones the earlier is better.
public func best(_ count: Int, of scores: [Float]) -> [Int] {
    Array(scores.indices.sorted { (scores[$0], $1) > (scores[$1], $0) }.prefix(count))
}
