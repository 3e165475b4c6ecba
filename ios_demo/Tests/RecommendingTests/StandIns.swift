import Foundation

@testable import Recommending

/// The folder of the scenario files.
let scenarios = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../mobile_host/scenarios").standardizedFileURL

func scenarioFile<File: Decodable>(_ name: String) throws -> File {
    try JSONDecoder().decode(File.self, from: Data(contentsOf: scenarios.appendingPathComponent(name)))
}

/// The model that the scenario file describes, and a `step` that counts.
struct StandInProgram: Program {
    func run(_ entryPoint: EntryPoint, _ inputs: [Tensor]) throws -> [Tensor] {
        switch (entryPoint.name, inputs.first, inputs.dropFirst().first) {
        case ("encode", .ints(let ids), _): return [.floats(encode(ids, entryPoint.outputs[0].count))]
        case ("step", .ints(let item), .floats(let sum)): return try step(item[0], sum[0], inputs[2])
        case (_, _, .ints(let candidates)): return [.floats(try rank(candidates, inputs.dropFirst(2)))]
        default: throw InvalidInput("the stand-in has no \(entryPoint.name)")
        }
    }

    private func encode(_ ids: [Int32], _ count: Int) -> [Float] {
        var h = [Float](repeating: 0, count: count)
        for (place, id) in ids.enumerated() { h[place * count / ids.count] = Float(id) }
        return h
    }

    private func rank(_ candidates: [Int32], _ correction: ArraySlice<Tensor>) throws -> [Float] {
        var bonus = 0.0
        for (place, tensor) in correction.enumerated() { bonus += Double(place + 1) * Double(try tensor.floats("correction")[0]) }
        return candidates.map { Float(Double($0) / 8 + bonus) }
    }

    /// The new sum is twice the old and the item: the order of clicks counts.
    private func step(_ item: Int32, _ sum: Float, _ position: Tensor) throws -> [Tensor] {
        guard case .ints(let position) = position else { throw InvalidInput("no position") }
        let next = sum * 2 + Float(item)
        return [.floats([next]), .ints([position[0] + 1]), .floats([next, Float(position[0] + 1)])]
    }
}

/// Items whose keys are their ids.
func numbered(_ count: Int) -> Items { Items(keys: (1...count).map { "\($0)" }, titles: (1...count).map { "film \($0)" }) }

/// A small model: 4 clicks, 3 candidates, ids to 49, a correction of 2 numbers.
func small(version: String = "0123456789abcdef") throws -> Contract {
    let ids = TensorSpec(name: "ids", type: .int32, shape: [1, 4])
    let candidates = TensorSpec(name: "candidates", type: .int32, shape: [1, 3])
    let scores = TensorSpec(name: "scores", type: .float32, shape: [1, 3])
    func number(_ name: String, _ type: ElementType, _ count: Int = 1) -> TensorSpec { TensorSpec(name: name, type: type, shape: [1, count]) }
    return try Contract(
        version: version, vocabSize: 50,
        entryPoints: [
            EntryPoint(name: "rank", inputs: [ids, candidates], outputs: [scores]),
            EntryPoint(name: "rank_corrected", inputs: [ids, candidates, number("vector", .float32, 2)], outputs: [scores]),
            EntryPoint(
                name: "step", inputs: [number("item", .int32), number("sum", .float32), number("position", .int32)],
                outputs: [number("sum_next", .float32), number("position_next", .int32), number("user", .float32, 2)]),
        ])
}

func history(_ ids: Int...) -> History {
    var history = History(numbered(49))
    for id in ids { history.append("\(id)") }
    return history
}
