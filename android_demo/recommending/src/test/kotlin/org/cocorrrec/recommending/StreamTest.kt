package org.cocorrrec.recommending

import java.io.IOException
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class StreamTest {
    private val file = scenarios("exchange.json")
    private val entryPoints = Contract.parseEntryPoints(file.getJSONObject("kinds").getJSONObject("kernel").getJSONArray("entry_points"))

    private fun scn(version: String) = Scn(StandInProgram(), Contract(version, file.getInt("vocab_size"), entryPoints))

    @TestFactory
    fun `a stream gives what the file says`(): List<DynamicTest> =
        file.getJSONArray("streams").objects().map { scenario -> dynamicTest(scenario.getString("name")) { play(scenario) } }

    private fun play(scenario: JSONObject) {
        val expected = scenario.getJSONObject("expect")
        val writer = scn(scenario.getString("saved_by"))
        val reader = scn(file.getString("version"))
        val restoredAfter = scenario.getJSONArray("restored_after").ints()
        val clicks = scenario.getJSONArray("clicks").ints()
        var stream = Stream(writer)
        assertNull(stream.user)
        val users = mutableListOf<List<Float>>()
        for (place in 0..clicks.size) {
            if (place > 0) {
                stream.click(clicks[place - 1])
                users += checkNotNull(stream.user).toList()
            }
            if (place !in restoredAfter) continue
            if (expected.isNull("error")) {
                val user = stream.user?.toList()
                stream = Stream.restore(reader, stream.save())
                assertEquals(user, stream.user?.toList())
            } else {
                assertEquals(expected.getString("error"), assertThrows(IOException::class.java) { Stream.restore(reader, stream.save()) }.message)
            }
        }
        assertEquals(expected.getJSONArray("users").map { user -> (user as JSONArray).map { (it as Number).toFloat() } }, users)
    }

    @Test
    fun `a stream cut off or too long is refused`() {
        val scn = Scn(StandInProgram(), SMALL)
        val saved = Stream(scn).apply { click(3) }.save()
        for (damaged in listOf(saved.copyOf(saved.size - 1), saved + 0, ByteArray(0))) {
            assertThrows(IOException::class.java) { Stream.restore(scn, damaged) }
        }
    }
}
