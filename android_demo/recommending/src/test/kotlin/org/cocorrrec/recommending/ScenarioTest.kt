package org.cocorrrec.recommending

import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory

/** The phone does in every scenario what the phone of the Python package does. */
class ScenarioTest {
    private val file = scenarios("exchange.json")
    private val server = address("COCORR_SCRIPTED")

    @TestFactory
    fun `the phone does what the file says`(): List<DynamicTest> = file.getJSONArray("exchanges").objects().flatMap { scenario ->
        val expected = scenario.getJSONObject("expect")
        expected.keySet().sorted().map { kind -> dynamicTest("$kind ${scenario.getString("name")}") { play(kind, scenario, expected.getJSONObject(kind)) } }
    }

    private fun play(kind: String, scenario: JSONObject, expected: JSONObject) {
        val entryPoints = Contract.parseEntryPoints(file.getJSONObject("kinds").getJSONObject(kind).getJSONArray("entry_points"))
        val contract = Contract(file.getString("version"), file.getInt("vocab_size"), entryPoints)
        val limit = scenario.getInt("limit_ms")
        val client = GcnClient("$server/$kind/${scenario.getString("name")}", contract.version, limitMillis = limit)
        val network = Executors.newSingleThreadExecutor()
        val model = Executors.newSingleThreadExecutor()
        val phone = Phone(Scn(StandInProgram(), contract), client, scenario.getLong("deadline_ms"), network, model)
        val history = History(numbered(contract.vocabSize - 1)).apply { scenario.getJSONArray("history").ints().forEach { add("$it") } }
        val candidates = scenario.getJSONArray("candidates").ints().toIntArray()
        var reranked: Ranking? = null
        val start = System.nanoTime()
        val ranking = model.submit<Ranking> { phone.rank(history, candidates) { reranked = it } }.get()
        assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(10), "nothing waits for a limit of $limit ms")
        finish(network)
        finish(model)
        assertEquals(expected.getBoolean("corrected"), ranking.corrected)
        assertEquals(expected.getJSONArray("scores").toList().map { "$it" }, ranking.scores.map { "$it" })
        assertEquals(expected.optJSONArray("reranked")?.toList()?.map { "$it" }, reranked?.scores?.map { "$it" })
        assertEquals(counts(expected.getJSONObject("counts")), phone.counts)
    }

    private fun finish(executor: java.util.concurrent.ExecutorService) {
        executor.shutdown()
        assertTrue(executor.awaitTermination(30, TimeUnit.SECONDS))
    }

    private fun counts(json: JSONObject) = Counts(
        sent = json.getInt("sent"), fused = json.getInt("fused"), alone = json.getInt("alone"),
        failed = json.getInt("failed"), late = json.getInt("late"), reranked = json.getInt("reranked"),
    )
}
