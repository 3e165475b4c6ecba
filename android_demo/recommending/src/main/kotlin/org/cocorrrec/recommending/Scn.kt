package org.cocorrrec.recommending

/** The cloud's answer for one user: the tensors of [Contract.correction], in that order. */
class Correction(val tensors: List<FloatArray>)

/**
 * The on-device model: every entry point of the exported program by its meaning, with its inputs checked.
 *
 * Blocks for as long as the program runs, and takes one thread at a time.
 */
class Scn(private val program: Program, val contract: Contract) : AutoCloseable {
    /** What goes to a cloud that takes H, `[L, 64]`. */
    fun encode(ids: IntArray): FloatArray {
        checkHistory(ids)
        return run("encode", listOf(Tensor.Ints(ids))).floats()
    }

    /**
     * A score for each candidate, with a correction if there is one.
     *
     * @param ids [History.ids] of [Contract.sequenceLength].
     * @param candidates any number of item ids: as many calls as the program's fixed number asks for.
     */
    fun rank(ids: IntArray, candidates: IntArray, correction: Correction? = null): FloatArray {
        checkHistory(ids)
        if (correction == null) return scores("rank", listOf(Tensor.Ints(ids)), candidates)
        check(correction)
        return scores("rank_corrected", listOf(Tensor.Ints(ids)), candidates, correction.tensors.map { Tensor.Floats(it) })
    }

    /** A score for each candidate for a user from [Stream]. */
    fun score(user: FloatArray, candidates: IntArray): FloatArray {
        Border.checkFinite("user", user)
        return scores("score", listOf(Tensor.Floats(user)), candidates)
    }

    /** One click of a stream; see [Stream]. */
    internal fun step(item: Int, state: List<Tensor>): List<Tensor> {
        Border.checkItems("item", intArrayOf(item), contract.vocabSize)
        return run("step", listOf(Tensor.Ints(intArrayOf(item))) + state)
    }

    override fun close() = program.close()

    private fun scores(name: String, before: List<Tensor>, candidates: IntArray, after: List<Tensor> = emptyList()): FloatArray {
        Border.checkItems("candidates", candidates, contract.vocabSize)
        val scores = FloatArray(candidates.size)
        for (start in candidates.indices step contract.candidates) {
            val end = minOf(start + contract.candidates, candidates.size)
            val padded = candidates.copyOfRange(start, end).copyOf(contract.candidates)
            run(name, before + Tensor.Ints(padded) + after).floats().copyInto(scores, start, 0, end - start)
        }
        return scores
    }

    private fun run(name: String, inputs: List<Tensor>): List<Tensor> {
        val entryPoint = contract[name]
        for ((spec, input) in entryPoint.inputs.zip(inputs)) {
            require(input.size == spec.count) { "$name: ${spec.name} has ${input.size} numbers, expected ${spec.count}" }
        }
        return program.run(entryPoint, inputs)
    }

    private fun checkHistory(ids: IntArray) = Border.checkHistory(ids, contract.sequenceLength, contract.vocabSize)

    private fun check(correction: Correction) {
        require(correction.tensors.size == contract.correction.size) { "a correction of ${correction.tensors.size} tensors" }
        for ((spec, values) in contract.correction.zip(correction.tensors)) Border.checkFinite(spec.name, values)
    }

    private fun List<Tensor>.floats(): FloatArray = (single() as Tensor.Floats).values
}

/** Places of the [count] best scores, best first; of equal ones the earlier is better. */
fun best(count: Int, scores: FloatArray): List<Int> = scores.indices.sortedByDescending { scores[it] }.take(count)
