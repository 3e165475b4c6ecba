package org.cocorrrec.recommending

import java.io.IOException
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class StreamTest {
    private val scn = Scn(StandInProgram(), SMALL)

    @Test
    fun `the state goes from click to click`() {
        val stream = Stream(scn)
        assertNull(stream.user)
        listOf(3, 5, 7).forEach(stream::click)
        assertArrayEquals(floatArrayOf(29f, 2f), stream.user)
    }

    @Test
    fun `a restored stream resumes, before the first click too`() {
        val saved = Stream(scn).save()
        val stream = Stream.restore(scn, saved).apply { click(3) }
        val again = Stream.restore(scn, stream.save())
        assertArrayEquals(floatArrayOf(3f, 0f), again.user)
        again.click(5)
        assertArrayEquals(floatArrayOf(11f, 1f), again.user)
    }

    @Test
    fun `a stream of other weights, cut off or too long is refused`() {
        val saved = Stream(scn).apply { click(3) }.save()
        val other = Scn(StandInProgram(), Contract("fedcba9876543210", 50, SMALL.entryPoints.toList()))
        val error = assertThrows(IOException::class.java) { Stream.restore(other, saved) }
        assertEquals("a stream of version 0123456789abcdef, the program is fedcba9876543210", error.message)
        for (damaged in listOf(saved.copyOf(saved.size - 1), saved + 0, ByteArray(0))) {
            assertThrows(IOException::class.java) { Stream.restore(scn, damaged) }
        }
    }
}
