import Dispatch
import Foundation
import Testing

@testable import Recommending

private struct TestCloud: Cloud {
    let takes: CloudContract
    let answer: @Sendable (Tensor) async throws -> [[Float]]

    func contract() async throws -> CloudContract { takes }
    func correct(_ input: Tensor) async throws -> [[Float]] { try await answer(input) }
}

private func cloud(_ answer: @escaping @Sendable (Tensor) async throws -> [[Float]]) throws -> TestCloud {
    let ids = TensorSpec(name: "ids", type: .int32, shape: [1, 6])
    return TestCloud(takes: CloudContract(input: ids, outputs: try small().correction), answer: answer)
}

@Suite struct PhoneTests {
    let scn: Scn

    init() throws { scn = Scn(StandInProgram(), try small()) }

    @Test func aCloudThatReadsMoreClicksThanThePhoneGetsMore() async throws {
        let seen = Locked<Tensor?>(nil)
        let phone = Phone(scn, cloud: try cloud { input in
            seen.with { $0 = input }
            return [[1, 0]]
        }, deadline: .seconds(10))
        let ranking = try await phone.rank(history(1, 2, 3, 4, 5), candidates: [8, 16])
        #expect(seen.with { $0 } == .ints([1, 2, 3, 4, 5, 0]))
        #expect(ranking.corrected && ranking.scores == [2, 3])
    }

    @Test func aSlowCloudDoesNotHoldThePhone() async throws {
        let phone = Phone(scn, cloud: try cloud { _ in
            try await Task.sleep(for: .seconds(20))
            return []
        }, deadline: .milliseconds(50))
        let start = ContinuousClock.now
        let ranking = try await phone.rank(history(1), candidates: [1])
        #expect(!ranking.corrected && ContinuousClock.now - start < .seconds(2))
    }

    @Test func aLateAnswerDoesNotReplaceANewerList() async throws {
        let calls = Locked(0), reranked = Locked(0), released = Locked(false)
        let phone = Phone(scn, cloud: try cloud { _ in
            let isFirst = calls.with { calls in
                calls += 1
                return calls == 1
            }
            while isFirst && !released.with({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
            return [[1, 0]]
        }, deadline: .seconds(1))
        _ = try await phone.rank(history(1), candidates: [1]) { _ in reranked.with { $0 += 1 } }
        _ = try await phone.rank(history(1, 2), candidates: [1])
        released.with { $0 = true }
        while phone.counts.late == 0 { try await Task.sleep(for: .milliseconds(5)) }
        _ = try await phone.rank(history(1), candidates: [1])
        #expect(reranked.with { $0 } == 0 && phone.counts.reranked == 0)
    }

    @Test func aServerOfAnotherKindIsRefusedByName() async throws {
        let kernels = CloudContract(
            input: TensorSpec(name: "H", type: .float32, shape: [1, 4, 8]),
            outputs: [TensorSpec(name: "k_b", type: .float32, shape: [1, 4])])
        let expected = InvalidInput("the phone's model sends ids and takes vector, the server takes H and answers k_b")
        #expect(throws: expected) { try kernels.check(small()) }
        let phone = Phone(scn, cloud: TestCloud(takes: kernels) { _ in [] }, deadline: .seconds(10))
        let ranking = try await phone.rank(history(1), candidates: [1])
        #expect(!ranking.corrected && phone.counts.failed == 1)
    }

    @Test func withoutACloudItRanksAloneAndSendsNothing() async throws {
        let phone = Phone(scn, cloud: nil, deadline: .seconds(10))
        let ranking = try await phone.rank(history(1), candidates: [1])
        var expected = Counts()
        expected.alone = 1
        #expect(ranking.scores == [0.125] && phone.counts == expected)
    }
}

@Suite struct RecommenderTests {
    private let screens = Locked<[Screen]>([])

    private func recommender() throws -> Recommender {
        let vector = try cloud { _ in [[1, 0]] }
        return Recommender(
            Scn(StandInProgram(), try small()), items: numbered(49), candidates: [1, 2, 3], deadline: .seconds(10),
            connect: { _ in vector }, show: { [screens] screen in screens.with { $0.append(screen) } })
    }

    private var last: Screen? { screens.with { $0.last } }

    @Test func aClickRanksAgainWithoutWhatWasClicked() async throws {
        let recommender = try recommender()
        try await recommender.start(clicks: [], server: nil)
        #expect(last?.lines.map(\.key) == ["3", "2", "1"])
        try await recommender.click("3")
        #expect(last?.lines.map(\.key) == ["2", "1"] && last?.history == ["3"])
    }

    @Test func anEarlierLifesClicksAndACloudThatComesAndGoes() async throws {
        let recommender = try recommender()
        try await recommender.start(clicks: ["1", "2"], server: URL(string: "http://server"))
        #expect(last?.lines.first?.score == "1.375" && last?.status.hasPrefix("corrected in") == true)
        try await recommender.useCloud(nil)
        #expect(last?.lines.first?.score == "0.375" && last?.status.hasPrefix("alone in") == true)
    }
}
