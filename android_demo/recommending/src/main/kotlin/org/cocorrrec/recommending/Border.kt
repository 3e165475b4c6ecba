package org.cocorrrec.recommending

/** What no runtime must see: it would rank another item, cut off a history or crash. In the words of the Python package. */
internal object Border {
    private const val RULE = "item ids are 1 to vocab_size - 1; 0 is padding, allowed only after the last click of a history"

    /** Ids as the program takes them: the last clicks, oldest first, then zeros. */
    fun checkHistory(ids: IntArray, length: Int, vocabSize: Int) {
        require(ids.size == length) { "ids is int32 [1, ${ids.size}], expected int32 [1, $length]" }
        val wrong = ids.indices.firstOrNull { place ->
            ids[place] !in 0 until vocabSize || (ids[place] == 0 && place + 1 < length && ids[place + 1] != 0)
        }
        require(wrong == null) { "ids holds ${ids[checkNotNull(wrong)]} at [0, $wrong]: $RULE (vocab_size $vocabSize)" }
    }

    /** Ids to score, or a click. */
    fun checkItems(name: String, ids: IntArray, vocabSize: Int) {
        require(ids.isNotEmpty()) { "$name is empty: $RULE" }
        val wrong = ids.indices.firstOrNull { ids[it] !in 1 until vocabSize }
        require(wrong == null) { "$name holds ${ids[checkNotNull(wrong)]} at [0, $wrong]: $RULE (vocab_size $vocabSize)" }
    }

    /** Numbers of a correction or of a user. */
    fun checkFinite(name: String, values: FloatArray) {
        require(values.none { it.isNaN() || it.isInfinite() }) { "$name holds a number that is not finite" }
    }
}
