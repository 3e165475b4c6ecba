package org.cocorrrec.recommending

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class HistoryTest {
    private val items = Items.parse("""{"model_sha256": "ab", "items": [["x", "Film X"], ["y", "Film Y"], ["z", "Film Z"]]}""", "ab")

    @Test
    fun `ids are places in the list from 1`() {
        assertEquals(listOf(1, 2, 3), listOf("x", "y", "z").map(items::id))
        assertEquals("Film Y", items.title(2))
        assertEquals("z", items.key(3))
        assertNull(items.id("w"))
    }

    @Test
    fun `items of another model are refused`() {
        val error = assertThrows(IllegalArgumentException::class.java) { Items.parse("""{"model_sha256": "ab", "items": []}""", "cd") }
        assertEquals("items of model ab, the program is of model cd", error.message)
    }

    @Test
    fun `unknown items are left out and padding is on the right`() {
        val history = History(items)
        assertTrue(history.isEmpty)
        listOf("x", "unknown", "z").forEach(history::add)
        assertArrayEquals(intArrayOf(1, 3, 0, 0), history.ids(4))
        assertEquals(listOf("x", "unknown", "z"), history.keys)
    }

    @Test
    fun `the last clicks are kept, oldest first`() {
        val history = History(items, limit = 3)
        listOf("x", "x", "y", "z").forEach(history::add)
        assertArrayEquals(intArrayOf(1, 2, 3), history.ids(3))
        assertArrayEquals(intArrayOf(2, 3), history.ids(2))
    }
}
