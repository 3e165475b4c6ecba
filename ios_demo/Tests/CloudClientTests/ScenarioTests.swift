import Foundation
import Testing

@testable import CloudClient
@testable import Recommending

private let environment = ProcessInfo.processInfo.environment
private let scripted = environment["COCORR_SCRIPTED"].flatMap(URL.init)
private let scenarioFile = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../../mobile_host/scenarios/exchange.json").standardizedFileURL

struct ExchangeFile: Decodable {
    struct Kind: Decodable { let entry_points: [EntryPoint] }

    let version: String
    let vocab_size: Int
    let kinds: [String: Kind]
    let exchanges: [Scenario]

    static func read() throws -> ExchangeFile { try JSONDecoder().decode(ExchangeFile.self, from: Data(contentsOf: scenarioFile)) }
}

struct Scenario: Decodable, Sendable, CustomTestStringConvertible {
    struct Expected: Decodable, Sendable {
        let corrected: Bool
        let scores: [Float]
        let reranked: [Float]?
        let counts: Counts
    }

    let name: String
    let history: [Int]
    let candidates: [Int32]
    let deadline_ms: Int
    let limit_ms: Int
    let expect: [String: Expected]

    var testDescription: String { name }
}

/// The model that the scenario file describes.
private struct StandInProgram: Program {
    func run(_ entryPoint: EntryPoint, _ inputs: [Tensor]) throws -> [Tensor] {
        if entryPoint.name == "encode", case .ints(let ids) = inputs[0] {
            var h = [Float](repeating: 0, count: entryPoint.outputs[0].count)
            for (place, id) in ids.enumerated() { h[place * h.count / ids.count] = Float(id) }
            return [.floats(h)]
        }
        guard case .ints(let candidates) = inputs[1] else { throw InvalidInput("no candidates") }
        var bonus = 0.0
        for (place, tensor) in inputs.dropFirst(2).enumerated() {
            guard case .floats(let values) = tensor else { throw InvalidInput("no correction") }
            bonus += Double(place + 1) * Double(values[0])
        }
        return [.floats(candidates.map { Float(Double($0) / 8 + bonus) })]
    }
}

/// The phone does in every scenario what the phone of the Python package does.
@Suite(.enabled(if: scripted != nil, "run make test-ios, which starts the servers")) struct ScenarioTests {
    @Test(arguments: try ExchangeFile.read().exchanges) func thePhoneDoesWhatTheFileSays(_ scenario: Scenario) async throws {
        let file = try ExchangeFile.read()
        for (name, expected) in scenario.expect {
            let kind = try #require(file.kinds[name])
            let contract = try Contract(version: file.version, vocabSize: file.vocab_size, entryPoints: kind.entry_points)
            let address = try #require(scripted).appendingPathComponent("\(name)/\(scenario.name)")
            let client = GcnClient(address: address, version: file.version, limit: Double(scenario.limit_ms) / 1000)
            let phone = Phone(Scn(StandInProgram(), contract), cloud: client, deadline: .milliseconds(scenario.deadline_ms))
            let keys = (1..<file.vocab_size).map { "\($0)" }
            var history = History(Items(keys: keys, titles: keys))
            for id in scenario.history { history.append("\(id)") }
            let reranked = Locked<[Float]?>(nil)
            let start = ContinuousClock.now
            let ranking = try await phone.rank(history, candidates: scenario.candidates) { again in reranked.with { $0 = again.scores } }
            #expect(ContinuousClock.now - start < .seconds(10), "nothing waits for a limit of \(scenario.limit_ms) ms")
            for _ in 0..<500 where phone.counts != expected.counts || reranked.with({ $0 }) != expected.reranked {
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(ranking.corrected == expected.corrected)
            #expect(ranking.scores == expected.scores)
            #expect(reranked.with { $0 } == expected.reranked)
            #expect(phone.counts == expected.counts)
        }
    }
}

@Suite struct ProtocolTests {
    private let outputs = [TensorSpec(name: "vector", type: .float32, shape: [1, 2])]

    private func answer(_ json: String, floats: Int) throws -> [[Float]] {
        try OpenInference.answer(Data(json.utf8) + Data(count: 4 * floats), jsonBytes: json.utf8.count, outputs: outputs)
    }

    @Test func answersThatAreNotOfTheProtocol() throws {
        func json(name: String = "vector", shape: String = "[1, 2]", bytes: Int = 8) -> String {
            #"{"outputs": [{"name": "\#(name)", "datatype": "FP32", "shape": \#(shape), "parameters": {"binary_data_size": \#(bytes)}}]}"#
        }
        #expect(try answer(json(), floats: 2) == [[0, 0]])
        let wrong = [(json(), 1), (json(), 3), (json(name: "other"), 0), (json(shape: "[2, 1]"), 2), (json(bytes: 4), 2), ("[1]", 2)]
        for (json, floats) in wrong { #expect(throws: (any Error).self, "\(json) \(floats)") { try answer(json, floats: floats) } }
        for jsonBytes in [0, -1, 4000] {
            #expect(throws: (any Error).self) { try OpenInference.answer(Data(count: 100), jsonBytes: jsonBytes, outputs: outputs) }
        }
    }
}
