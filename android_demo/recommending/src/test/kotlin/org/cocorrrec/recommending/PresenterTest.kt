package org.cocorrrec.recommending

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class PresenterTest {
    private val items = numbered(20)
    private val history = History(items).apply { listOf("3", "new", "5").forEach(::add) }

    private fun ranking(corrected: Boolean, reranked: Boolean, nanos: Long) =
        Ranking(intArrayOf(4, 9, 7), floatArrayOf(.25f, .5f, .5f), corrected, reranked, 0, 0, nanos)

    private fun screen(ranking: Ranking) =
        Presenter(items, shown = 2).screen(history, ranking, Latencies().apply { listOf(3L, 1L, 2L).forEach { add(it * 1_000_000) } }, Counts(4, 1, 3, 1, 2, 1))

    @Test
    fun `lines are finished, best first, the earlier of equals first`() {
        val lines = screen(ranking(corrected = true, reranked = false, nanos = 6_000_000)).lines
        assertEquals(listOf(Line("9", 1, "film 9", "0.500"), Line("7", 2, "film 7", "0.500")), lines)
    }

    @Test
    fun `it says how the list came about`() {
        assertEquals("corrected in 6.0 ms", screen(ranking(true, false, 6_000_000)).status)
        assertEquals("alone in 151 ms", screen(ranking(false, false, 151_200_000)).status)
        assertEquals("re-ranked after 80 ms", screen(ranking(true, true, 80_400_000)).status)
    }

    @Test
    fun `clicks, latency and counts`() {
        val screen = screen(ranking(true, false, 1))
        assertEquals("film 5, new (unknown), film 3", screen.clicks)
        assertEquals("p50 of the last 3: 2.0 ms", screen.latency)
        assertEquals("sent 4, corrected 1, alone 3 (failed 1, late 2)", screen.counts)
        assertEquals(listOf("3", "new", "5"), screen.history)
    }
}
