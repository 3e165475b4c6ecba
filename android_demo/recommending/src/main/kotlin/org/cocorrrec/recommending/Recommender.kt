package org.cocorrrec.recommending

import java.util.concurrent.Executor

/**
 * What an app talks to: clicks go in, finished screens come out. The program runs on [model], calls to the cloud on
 * [network], and [show] is called on [model].
 *
 * @param candidates the list to rank, of the program's item ids.
 * @param connect a client for the address of a server.
 */
class Recommender(
    private val scn: Scn,
    private val items: Items,
    private val candidates: IntArray,
    private val connect: (address: String) -> Cloud,
    private val network: Executor,
    private val model: Executor,
    private val show: (Screen) -> Unit,
    private val deadlineMillis: Long = DEADLINE_MILLIS,
) {
    private val history = History(items)
    private val presenter = Presenter(items)
    private val latencies = Latencies()
    private var phone = phone(null)

    /** Ranks for the clicks of an earlier life of the app; an empty list is a new user. */
    fun start(clicks: List<String>, address: String?) = model.execute {
        clicks.forEach(history::add)
        phone = phone(address)
        phone.warmUp()
        rank()
    }

    fun click(key: String) = model.execute {
        history.add(key)
        rank()
    }

    /** @param address null to do without a cloud. */
    fun useCloud(address: String?) = model.execute {
        phone = phone(address)
        phone.warmUp()
        rank()
    }

    private fun rank() {
        val ranking = phone.rank(history, unseen()) { show(screen(it)) }
        latencies.add(ranking.totalNanos)
        show(screen(ranking))
    }

    /** The list without what was clicked, as long as anything is left of it. */
    private fun unseen(): IntArray {
        val clicked = history.keys.toSet()
        val unseen = candidates.filter { items.key(it) !in clicked }
        return if (unseen.isEmpty()) candidates else unseen.toIntArray()
    }

    private fun screen(ranking: Ranking): Screen = presenter.screen(history, ranking, latencies, phone.counts)

    private fun phone(address: String?): Phone = Phone(scn, address?.let(connect), deadlineMillis, network, model)

    private companion object {
        const val DEADLINE_MILLIS = 150L
    }
}
