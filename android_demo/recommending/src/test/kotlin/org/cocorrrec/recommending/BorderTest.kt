package org.cocorrrec.recommending

import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.TestFactory

/** What the file of ids at the border says, in its words. */
class BorderTest {
    private val file = scenarios("ids.json")

    @TestFactory
    fun `ids at the border`(): List<DynamicTest> = file.getJSONArray("cases").objects().map { case -> dynamicTest(case.getString("name")) { play(case) } }

    private fun play(case: JSONObject) {
        val scn = Scn(StandInProgram(), Contract("0123456789abcdef", file.getInt("vocab_size"), Contract.parseEntryPoints(file.getJSONArray("entry_points"))))
        val correction = case.optJSONArray("vector")?.let { values ->
            Correction(listOf(FloatArray(values.length()) { values.getString(it).toFloat() }))
        }
        val ids = case.getJSONArray("ids").ints().toIntArray()
        val candidates = case.getJSONArray("candidates").ints().toIntArray()
        val expected = if (case.isNull("error")) null else case.getString("error")
        if (expected == null) {
            assertEquals(candidates.size, scn.rank(ids, candidates, correction).size)
        } else {
            assertEquals(expected, assertThrows(IllegalArgumentException::class.java) { scn.rank(ids, candidates, correction) }.message)
        }
    }
}
