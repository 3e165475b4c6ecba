/// What no runtime must see: it would rank another item, cut off a history or crash.
enum Border {
    /// Ids as the program takes them: the last clicks, oldest first, then zeros.
    static func check(history ids: [Int32], length: Int, vocabSize: Int) throws {
        guard ids.count == length else { throw InvalidInput("a history has \(length) ids, got \(ids.count)") }
        for id in ids where !(0..<vocabSize).contains(Int(id)) {
            throw InvalidInput("id \(id) is outside 0..\(vocabSize - 1)")
        }
        guard let padding = ids.firstIndex(of: 0) else { return }
        for id in ids[padding...] where id != 0 {
            throw InvalidInput("a history is padded on the right: id 0 at place \(padding) is before id \(id)")
        }
    }

    /// Ids to score.
    static func check(candidates: [Int32], vocabSize: Int) throws {
        if candidates.isEmpty { throw InvalidInput("no candidates") }
        for id in candidates where !(1..<vocabSize).contains(Int(id)) {
            throw InvalidInput("candidate \(id) is outside 1..\(vocabSize - 1)")
        }
    }

    /// Numbers of a correction or of a user.
    static func check(finite values: [Float], _ name: String) throws {
        for value in values where !value.isFinite {
            let text = value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
            throw InvalidInput("'\(name)' has the value \(text), which is not finite")
        }
    }
}
