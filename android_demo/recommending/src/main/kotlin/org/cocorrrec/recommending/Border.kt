package org.cocorrrec.recommending

/** What no runtime must see: it would rank another item, cut off a history or crash. */
internal object Border {
    /** Ids as the program takes them: the last clicks, oldest first, then zeros. */
    fun checkHistory(ids: IntArray, length: Int, vocabSize: Int) {
        require(ids.size == length) { "a history has $length ids, got ${ids.size}" }
        for (id in ids) require(id in 0 until vocabSize) { "id $id is outside 0..${vocabSize - 1}" }
        val padding = ids.indexOf(0)
        if (padding >= 0) {
            for (place in padding until ids.size) {
                require(ids[place] == 0) { "a history is padded on the right: id 0 at place $padding is before id ${ids[place]}" }
            }
        }
    }

    /** Ids to score. */
    fun checkCandidates(candidates: IntArray, vocabSize: Int) {
        require(candidates.isNotEmpty()) { "no candidates" }
        for (id in candidates) require(id in 1 until vocabSize) { "candidate $id is outside 1..${vocabSize - 1}" }
    }

    /** Numbers of a correction or of a user. */
    fun checkFinite(name: String, values: FloatArray) {
        for (value in values) require(!value.isNaN() && !value.isInfinite()) { "'$name' has the value $value, which is not finite" }
    }
}
