package org.cocorrrec.recommending

import java.util.Locale

/** One line of the list. */
data class Line(val key: String, val place: Int, val title: String, val score: String)

/** Everything that a screen shows, as finished text: a view decides nothing. */
data class Screen(
    val clicks: String,
    val status: String,
    val latency: String,
    val counts: String,
    val lines: List<Line>,
    /** What the app keeps, for [Recommender.start] of its next life. */
    val history: List<String>,
)

class Presenter(private val items: Items, private val shown: Int = 10) {
    fun screen(history: History, ranking: Ranking, latencies: Latencies, counts: Counts): Screen = Screen(
        clicks = clicks(history),
        status = status(ranking),
        latency = latencies.p50Nanos?.let { String.format(Locale.ROOT, "p50 of the last %d: %s", latencies.count, millis(it)) }.orEmpty(),
        counts = with(counts) { "sent $sent, corrected $fused, alone $alone (failed $failed, late $late)" },
        lines = lines(ranking),
        history = history.keys,
    )

    private fun clicks(history: History): String {
        val titles = history.keys.takeLast(RECENT).reversed().map { key -> items.id(key)?.let(items::title) ?: "$key (unknown)" }
        return if (titles.isEmpty()) "No clicks yet: tap a film" else titles.joinToString(", ")
    }

    private fun status(ranking: Ranking): String = when {
        ranking.reranked -> "re-ranked after ${millis(ranking.totalNanos)}"
        ranking.corrected -> "corrected in ${millis(ranking.totalNanos)}"
        else -> "alone in ${millis(ranking.totalNanos)}"
    }

    private fun lines(ranking: Ranking): List<Line> = best(shown, ranking.scores).mapIndexed { place, index ->
        val id = ranking.candidates[index]
        Line(items.key(id), place + 1, items.title(id), String.format(Locale.ROOT, "%.3f", ranking.scores[index]))
    }

    private fun millis(nanos: Long): String = String.format(Locale.ROOT, if (nanos < 10_000_000) "%.1f ms" else "%.0f ms", nanos / 1e6)

    private companion object {
        const val RECENT = 5
    }
}

/** How long the last calls took. */
class Latencies(private val limit: Int = 50) {
    private val nanos = ArrayDeque<Long>()

    val count: Int get() = nanos.size

    /** Their median; null before the first. */
    val p50Nanos: Long? get() = if (nanos.isEmpty()) null else nanos.sorted()[nanos.size / 2]

    fun add(value: Long) {
        nanos.addLast(value)
        if (nanos.size > limit) nanos.removeFirst()
    }
}
