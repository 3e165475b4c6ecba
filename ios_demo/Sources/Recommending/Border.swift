/// What no runtime must see: it would rank another item, cut off a history or crash. In the words of the Python package.
enum Border {
    private static let rule = "item ids are 1 to vocab_size - 1; 0 is padding, allowed only after the last click of a history"

    /// Ids as the program takes them: the last clicks, oldest first, then zeros.
    static func check(history ids: [Int32], length: Int, vocabSize: Int) throws {
        guard ids.count == length else { throw InvalidInput("ids is int32 [1, \(ids.count)], expected int32 [1, \(length)]") }
        for (place, id) in ids.enumerated() {
            let isBeforeAClick = id == 0 && place + 1 < length && ids[place + 1] != 0
            if isBeforeAClick || !(0..<vocabSize).contains(Int(id)) { throw wrong("ids", id, place, vocabSize) }
        }
    }

    /// Ids to score, or a click.
    static func check(items ids: [Int32], _ name: String, vocabSize: Int) throws {
        if ids.isEmpty { throw InvalidInput("\(name) is empty: \(rule)") }
        for (place, id) in ids.enumerated() where !(1..<vocabSize).contains(Int(id)) { throw wrong(name, id, place, vocabSize) }
    }

    /// Numbers of a correction or of a user.
    static func check(finite values: [Float], _ name: String) throws {
        guard values.allSatisfy({ $0.isFinite }) else { throw InvalidInput("\(name) holds a number that is not finite") }
    }

    private static func wrong(_ name: String, _ id: Int32, _ place: Int, _ vocabSize: Int) -> InvalidInput {
        InvalidInput("\(name) holds \(id) at [0, \(place)]: \(rule) (vocab_size \(vocabSize))")
    }
}
