import Foundation
import Testing

@testable import Recommending

@Suite struct HistoryTests {
    let items: Items

    init() throws {
        let json = #"{"model_sha256": "ab", "items": [["x", "Film X"], ["y", "Film Y"], ["z", "Film Z"]]}"#
        items = try Items(json: Data(json.utf8), modelSha256: "ab")
    }

    @Test func idsArePlacesInTheListFromOne() {
        #expect(["x", "y", "z", "w"].map(items.id) == [1, 2, 3, nil])
        #expect(items.title(2) == "Film Y" && items.key(3) == "z")
    }

    @Test func itemsOfAnotherModelAreRefused() {
        #expect(throws: InvalidInput("items of model ab, the program is of model cd")) {
            try Items(json: Data(#"{"model_sha256": "ab", "items": []}"#.utf8), modelSha256: "cd")
        }
    }

    @Test func unknownItemsAreLeftOutAndPaddingIsOnTheRight() {
        var history = History(items)
        #expect(history.isEmpty)
        for key in ["x", "unknown", "z"] { history.append(key) }
        #expect(history.ids(4) == [1, 3, 0, 0] && history.keys == ["x", "unknown", "z"])
    }

    @Test func theLastClicksAreKeptOldestFirst() {
        var history = History(items, limit: 3)
        for key in ["x", "x", "y", "z"] { history.append(key) }
        #expect(history.ids(3) == [1, 2, 3] && history.ids(2) == [2, 3])
    }
}

@Suite struct ExchangeTests {
    let correction = Correction([[1]])

    @Test func anAnswerInTimeIsTakenOnce() throws {
        var exchange = Exchange()
        exchange.answer(correction)
        #expect(exchange.state == .answered)
        #expect(try exchange.take() == correction)
        #expect(exchange.state == .fused)
        #expect(throws: InvalidInput.self) { try exchange.take() }
        #expect(exchange.takeLate() == nil)
    }

    @Test func anAnswerAfterTheRankingIsLateAndCanBeTakenOnce() throws {
        var exchange = Exchange()
        #expect(try exchange.take() == nil)
        exchange.answer(correction)
        exchange.fail()
        #expect(exchange.state == .late)
        #expect(exchange.takeLate() == correction)
        #expect(exchange.state == .reranked)
        #expect(exchange.takeLate() == nil)
    }

    @Test func aFailureIsNoAnswer() throws {
        var exchange = Exchange()
        exchange.fail()
        exchange.answer(correction)
        #expect(exchange.state == .failed)
        #expect(try exchange.take() == nil)
        #expect(exchange.state == .alone)
    }
}

private struct StreamFile: Decodable {
    struct Kind: Decodable { let entry_points: [EntryPoint] }

    let version: String
    let vocab_size: Int
    let kinds: [String: Kind]
    let streams: [StreamScenario]
}

struct StreamScenario: Decodable, Sendable, CustomTestStringConvertible {
    struct Expected: Decodable, Sendable {
        let users: [[Float]]
        let error: String?
    }

    let name: String
    let clicks: [Int32]
    let restored_after: [Int]
    let saved_by: String
    let expect: Expected

    var testDescription: String { name }

    static func all() throws -> [StreamScenario] { (try scenarioFile("exchange.json") as StreamFile).streams }
}

@Suite struct StreamTests {
    @Test(arguments: try StreamScenario.all()) func aStreamGivesWhatTheFileSays(_ scenario: StreamScenario) throws {
        let file: StreamFile = try scenarioFile("exchange.json")
        let entryPoints = try #require(file.kinds["kernel"]).entry_points
        func scn(_ version: String) throws -> Scn {
            Scn(StandInProgram(), try Contract(version: version, vocabSize: file.vocab_size, entryPoints: entryPoints))
        }
        let reader = try scn(file.version)
        var stream = try Stream(try scn(scenario.saved_by))
        #expect(stream.user == nil)
        var users: [[Float]] = []
        for place in 0...scenario.clicks.count {
            if place > 0 {
                try stream.click(scenario.clicks[place - 1])
                users.append(try #require(stream.user))
            }
            guard scenario.restored_after.contains(place) else { continue }
            let saved = try stream.save()
            if let error = scenario.expect.error {
                #expect(throws: InvalidInput(error)) { try Stream(reader, restoring: saved) }
            } else {
                let user = stream.user
                stream = try Stream(reader, restoring: saved)
                #expect(stream.user == user)
            }
        }
        #expect(users == scenario.expect.users)
    }

    @Test func aStreamThatIsCutOffIsRefused() throws {
        let scn = Scn(StandInProgram(), try small())
        var stream = try Stream(scn)
        try stream.click(3)
        let saved = try stream.save()
        for damaged in [saved.dropLast(), Data()] { #expect(throws: (any Error).self) { try Stream(scn, restoring: damaged) } }
    }
}

@Suite struct PresenterTests {
    private func screen(corrected: Bool, reranked: Bool, millis: Double) -> Screen {
        var clicks = History(numbered(20)), latencies = Latencies(), counts = Counts()
        for key in ["3", "new", "5"] { clicks.append(key) }
        for time in [3, 1, 2] { latencies.append(.milliseconds(time)) }
        (counts.sent, counts.fused, counts.alone, counts.failed, counts.late) = (4, 1, 3, 1, 2)
        let ranking = Ranking(
            candidates: [4, 9, 7], scores: [0.25, 0.5, 0.5], corrected: corrected, reranked: reranked, waitTime: .zero,
            rankTime: .zero, totalTime: .microseconds(Int(millis * 1000)))
        return Presenter(numbered(20), shown: 2).screen(clicks, ranking, latencies, counts)
    }

    @Test func linesAreFinishedBestFirstTheEarlierOfEqualsFirst() {
        let lines = screen(corrected: true, reranked: false, millis: 6).lines
        #expect(lines == [
            Line(key: "9", place: 1, title: "film 9", score: "0.500"), Line(key: "7", place: 2, title: "film 7", score: "0.500"),
        ])
    }

    @Test func itSaysHowTheListCameAbout() {
        #expect(screen(corrected: true, reranked: false, millis: 6).status == "corrected in 6.0 ms")
        #expect(screen(corrected: false, reranked: false, millis: 151.2).status == "alone in 151 ms")
        #expect(screen(corrected: true, reranked: true, millis: 80.4).status == "re-ranked after 80 ms")
    }

    @Test func clicksLatencyAndCounts() {
        let screen = screen(corrected: true, reranked: false, millis: 1)
        #expect(screen.clicks == "film 5, new (unknown), film 3")
        #expect(screen.latency == "p50 of the last 3: 2.0 ms")
        #expect(screen.counts == "sent 4, corrected 1, alone 3 (failed 1, late 2)")
        #expect(screen.history == ["3", "new", "5"])
    }
}

struct BorderCase: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let ids: [Int32]
    let candidates: [Int32]
    let vector: [String]?
    let error: String?

    var testDescription: String { name }
}

struct BorderFile: Decodable {
    let vocab_size: Int
    let entry_points: [EntryPoint]
    let cases: [BorderCase]
}

/// What the file of ids at the border says, in its words.
@Suite struct BorderTests {
    @Test(arguments: try (scenarioFile("ids.json") as BorderFile).cases) func idsAtTheBorder(_ test: BorderCase) throws {
        let file: BorderFile = try scenarioFile("ids.json")
        let contract = try Contract(version: "0123456789abcdef", vocabSize: file.vocab_size, entryPoints: file.entry_points)
        let scn = Scn(StandInProgram(), contract)
        let correction = test.vector.map { Correction([$0.compactMap(Float.init)]) }
        let rank = { try scn.rank(ids: test.ids, candidates: test.candidates, correction: correction) }
        if let error = test.error {
            #expect(throws: InvalidInput(error)) { try rank() }
        } else {
            #expect(try rank().count == test.candidates.count)
        }
    }
}
