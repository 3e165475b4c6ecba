import CloudClient
import Foundation
import Recommending
import ScnHost
import Testing

private let environment = ProcessInfo.processInfo.environment
private let folder = environment["COCORR_SCN"].map { URL(fileURLWithPath: $0) }
private let server = environment["COCORR_SERVER"].flatMap(URL.init)

/// `vectors.safetensors` of an export: the size of a JSON header, the header, the bytes.
struct Vectors {
    /// Nil in the entry of the file's own metadata.
    private struct Entry: Decodable { let data_offsets: [Int]? }

    private let file: Data
    private let header: [String: Entry]
    private let start: Int

    init(_ path: URL) throws {
        file = try Data(contentsOf: path)
        start = 8 + file.withUnsafeBytes { Int(UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self))) }
        header = try JSONDecoder().decode([String: Entry].self, from: file[8..<start])
    }

    func cases(_ entryPoint: EntryPoint) -> [String] {
        Set(header.keys.filter { $0.hasPrefix(entryPoint.name + ".") }.map { String($0.split(separator: ".")[1]) }).sorted()
    }

    func tensors(_ prefix: String, _ specs: [TensorSpec]) throws -> [Tensor] {
        try specs.enumerated().map { place, spec in
            let offsets = try #require(header["\(prefix).\(place).\(spec.name)"]?.data_offsets)
            let bits: [UInt32] = file.withUnsafeBytes { bytes in
                stride(from: start + offsets[0], to: start + offsets[1], by: 4).map {
                    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self))
                }
            }
            return spec.type == .int32 ? .ints(bits.map(Int32.init(bitPattern:))) : .floats(bits.map(Float.init(bitPattern:)))
        }
    }
}

private struct Limits: Decodable {
    struct Recipe: Decodable { let parity: Parity }
    struct Parity: Decodable { let max_abs: Float, max_rel: Float }

    let recipe: Recipe
}

@Suite(.enabled(if: folder != nil, "run make test-ios, which exports a program"), .serialized) struct TheExportedProgram {
    let contract: Contract
    let program: HostProgram
    let scn: Scn
    let limits: (abs: Float, rel: Float)
    private let vectors: Vectors

    init() throws {
        let folder = try #require(folder)
        let manifest = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
        contract = try Contract(manifest: manifest, vocabSize: 1000)
        program = try HostProgram(folder.appendingPathComponent("scn.pte").path)
        scn = Scn(program, contract)
        let parity = try JSONDecoder().decode(Limits.self, from: manifest).recipe.parity
        limits = (parity.max_abs, parity.max_rel)
        vectors = try Vectors(folder.appendingPathComponent("vectors.safetensors"))
    }

    /// Within the limits that the export itself had to keep.
    @Test func givesWhatTheModelGives() throws {
        for entryPoint in contract.entryPoints {
            let cases = vectors.cases(entryPoint)
            #expect(cases.count >= 10)
            var worst: Float = 0
            for name in cases {
                let inputs = try vectors.tensors("\(entryPoint.name).\(name).in", entryPoint.inputs)
                let expected = try vectors.tensors("\(entryPoint.name).\(name).out", entryPoint.outputs)
                for (spec, pair) in zip(entryPoint.outputs, zip(try program.run(entryPoint, inputs), expected)) {
                    guard case (.floats(let have), .floats(let want)) = pair else {
                        #expect(pair.0 == pair.1, "\(entryPoint.name) \(name) \(spec.name)")
                        continue
                    }
                    let difference = zip(have, want).map { abs($0 - $1) }.max() ?? .infinity
                    let isWithin = difference <= limits.rel * (want.map(abs).max() ?? 0) && (spec.name != "scores" || difference <= limits.abs)
                    #expect(have.count == want.count && isWithin, "\(entryPoint.name) \(name) \(spec.name): \(difference)")
                    worst = max(worst, difference)
                }
            }
            print("\(entryPoint.name): \(cases.count) cases, max \(worst)")
        }
    }

    @Test func aRestoredStreamGoesOn() throws {
        let clicks: [Int32] = [5, 17, 3, 40, 2, 8, 21], candidates = Array(Int32(1)...50)
        var whole = try Stream(scn), first = try Stream(scn)
        for click in clicks { try whole.click(click) }
        for click in clicks.prefix(4) { try first.click(click) }
        var second = try Stream(scn, restoring: try first.save())
        for click in clicks.dropFirst(4) { try second.click(click) }
        #expect(whole.user == second.user)
        let keys = (1..<1000).map { "\($0)" }
        var history = History(Items(keys: keys, titles: keys))
        for click in clicks { history.append("\(click)") }
        let streamed = try scn.score(user: try #require(whole.user), candidates: candidates)
        let ranked = try scn.rank(ids: history.ids(contract.sequenceLength), candidates: candidates)
        let worst = zip(streamed, ranked).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst <= 0.02 * max(1, ranked.map(abs).max() ?? 0))
    }

    @Test func aRankingTakesLittleTime() throws {
        let ids = Array(Int32(1)...Int32(contract.sequenceLength)), candidates = Array(Int32(1)...Int32(contract.candidates))
        let times = try (0..<400).map { _ in
            let start = ContinuousClock.now
            _ = try scn.rank(ids: ids, candidates: candidates)
            return ContinuousClock.now - start
        }
        print("rank p50 \(times.dropFirst(100).sorted()[150])")
    }

    @Test(.enabled(if: server != nil)) func ranksWithTheCloud() async throws {
        let client = GcnClient(address: try #require(server), version: contract.version)
        let phone = Phone(scn, cloud: client, deadline: .seconds(5))
        try await phone.warmUp()
        let keys = (1..<1000).map { "\($0)" }
        var history = History(Items(keys: keys, titles: keys))
        for key in keys.prefix(5) { history.append(key) }
        let alone = try scn.rank(ids: history.ids(contract.sequenceLength), candidates: Array(1...100))
        var waits: [Duration] = []
        for _ in 0..<40 {
            let ranking = try await phone.rank(history, candidates: Array(1...100))
            #expect(ranking.corrected && ranking.scores != alone)
            waits.append(ranking.waitTime)
        }
        print("encode and the server's round trip: p50 \(waits.dropFirst(10).sorted()[15]), first \(waits[0])")
    }

    @Test(.enabled(if: server != nil)) func aServerRefusesOtherWeightsOrIsGone() async throws {
        let other = GcnClient(address: try #require(server), version: "0000000000000000")
        await #expect(throws: Refused.self) { try await other.contract() }
        let gone = GcnClient(address: try #require(URL(string: "http://127.0.0.1:9")), version: contract.version)
        await #expect(throws: (any Error).self) { try await gone.contract() }
    }

    @Test func whatIsNoProgramIsRefused() {
        #expect(throws: HostProgram.Failure.self) { try HostProgram("/etc/hostname") }
    }
}
