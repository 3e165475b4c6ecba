package org.cocorrrec.recommending

import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.concurrent.TimeUnit

/** What became of the rankings of one phone. */
data class Counts(
    val sent: Int = 0,
    val fused: Int = 0,
    val alone: Int = 0,
    /** Of those alone: the cloud gave an error, or could not be reached. */
    val failed: Int = 0,
    /** Of those alone: the answer came after all. */
    val late: Int = 0,
    /** Of those late: the list was ranked again with the answer. */
    val reranked: Int = 0,
)

/** Scores in the order of the candidates, and where the time went. */
class Ranking(
    val candidates: IntArray,
    val scores: FloatArray,
    /** Whether the cloud's answer is in the scores. */
    val corrected: Boolean,
    /** Whether these scores replace ones that were shown before. */
    val reranked: Boolean,
    val waitNanos: Long,
    val rankNanos: Long,
    /** From the call until the scores were there. */
    val totalNanos: Long,
)

/**
 * An app's re-ranker: it sends what the cloud needs, waits until the deadline at most, and ranks with what is there. An
 * answer that comes later ranks the list again, unless a newer list was asked for.
 *
 * Call [rank] on [model]'s thread: it blocks until the deadline.
 *
 * @param cloud null to rank alone.
 * @param deadlineMillis from the upload until the correction is needed.
 * @param network runs the calls, which block.
 * @param model the one thread that runs the program.
 */
class Phone(
    private val scn: Scn,
    private val cloud: Cloud?,
    private val deadlineMillis: Long,
    private val network: Executor,
    private val model: Executor,
) {
    @get:Synchronized
    var counts = Counts()
        private set

    @Volatile
    private var newest: Exchange? = null

    /** Runs the program and opens the connection once, so that the first ranking does not pay for it. */
    fun warmUp() {
        val ids = IntArray(scn.contract.sequenceLength)
        if (cloud != null) {
            network.execute {
                try {
                    cloud.contract().check(scn.contract)
                } catch (_: Exception) {
                    // Whatever is wrong, the first exchange meets it too, and counts it.
                }
            }
        }
        scn.rank(ids, intArrayOf(1))
        if ("encode" in scn.contract) scn.encode(ids)
    }

    /** @param onReranked is called on [model]'s thread, if the answer comes after the deadline. */
    fun rank(history: History, candidates: IntArray, onReranked: (Ranking) -> Unit = {}): Ranking {
        val start = System.nanoTime()
        val ids = history.ids(scn.contract.sequenceLength)
        val exchange = Exchange()
        newest = exchange
        if (cloud == null || history.isEmpty || scn.contract.correction.isEmpty()) {
            exchange.fail()
        } else {
            send(cloud, history, ids, exchange) { correction ->
                count { it.copy(reranked = it.reranked + 1) }
                onReranked(fuse(ids, candidates, correction, start, System.nanoTime(), reranked = true))
            }
            if (exchange.state == State.FAILED) count { it.copy(failed = it.failed + 1) }
        }
        val correction = exchange.take()
        count { if (correction == null) it.copy(alone = it.alone + 1) else it.copy(fused = it.fused + 1) }
        return fuse(ids, candidates, correction, start, System.nanoTime(), reranked = false)
    }

    private fun fuse(ids: IntArray, candidates: IntArray, correction: Correction?, start: Long, needed: Long, reranked: Boolean): Ranking {
        val scores = scn.rank(ids, candidates, correction)
        val end = System.nanoTime()
        return Ranking(candidates, scores, correction != null, reranked, needed - start, end - needed, end - start)
    }

    /** Sends, and waits until the deadline at most. */
    private fun send(cloud: Cloud, history: History, ids: IntArray, exchange: Exchange, late: (Correction) -> Unit) {
        val encoded = if ("encode" in scn.contract) Tensor.Floats(scn.encode(ids)) else null
        val settled = CountDownLatch(1)
        count { it.copy(sent = it.sent + 1) }
        val until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(deadlineMillis)
        network.execute {
            try {
                exchange.answer(ask(cloud, history, encoded))
            } catch (_: Exception) {
                exchange.fail()
            } finally {
                settled.countDown()
            }
            if (exchange.state == State.LATE) {
                count { it.copy(late = it.late + 1) }
                model.execute { if (newest === exchange) exchange.takeLate()?.let(late) }
            }
        }
        settled.await(until - System.nanoTime(), TimeUnit.NANOSECONDS)
    }

    private fun ask(cloud: Cloud, history: History, encoded: Tensor?): Correction {
        val contract = cloud.contract()
        contract.check(scn.contract)
        val answer = cloud.correct(encoded ?: Tensor.Ints(history.ids(contract.input.count)))
        val byName = contract.outputs.map { it.name }.zip(answer).toMap()
        return Correction(scn.contract.correction.map { byName.getValue(it.name) })
    }

    @Synchronized
    private fun count(change: (Counts) -> Counts) {
        counts = change(counts)
    }
}
