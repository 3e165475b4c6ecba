package org.cocorrrec.recommending

enum class State { WAITING, ANSWERED, FAILED, FUSED, ALONE, LATE, RERANKED }

/** One upload and what becomes of it: no clock, no network. Safe to share between threads. */
class Exchange {
    @get:Synchronized
    var state = State.WAITING
        private set
    private var correction: Correction? = null

    /** The answer is here. */
    @Synchronized
    fun answer(correction: Correction) {
        val next = when (state) {
            State.WAITING -> State.ANSWERED
            State.ALONE -> State.LATE
            else -> return
        }
        state = next
        this.correction = correction
    }

    /** There will be no answer. */
    @Synchronized
    fun fail() {
        if (state == State.WAITING) state = State.FAILED
    }

    /** The correction is needed now: it, or null to rank alone. */
    @Synchronized
    fun take(): Correction? {
        check(state == State.WAITING || state == State.ANSWERED || state == State.FAILED) { "this exchange is over: $state" }
        return taken().also { state = if (it == null) State.ALONE else State.FUSED }
    }

    /** The answer that came after the ranking, once; null if none has. */
    @Synchronized
    fun takeLate(): Correction? = if (state == State.LATE) taken().also { state = State.RERANKED } else null

    private fun taken(): Correction? = correction.also { correction = null }
}
