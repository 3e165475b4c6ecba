package org.cocorrrec.recommending

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class RecommenderTest {
    private val screens = mutableListOf<Screen>()
    private val scn = Scn(StandInProgram(), SMALL)
    private val cloud = object : Cloud {
        override fun contract() = CloudContract(TensorSpec("ids", ElementType.INT32, listOf(1, 6)), SMALL.correction)
        override fun correct(input: Tensor) = listOf(floatArrayOf(1f, 0f))
    }
    private val recommender = Recommender(
        scn, numbered(49), intArrayOf(1, 2, 3), connect = { cloud }, network = { it.run() }, model = { it.run() }, show = { screens.add(it) },
    )

    @Test
    fun `a click ranks again, without what was clicked`() {
        recommender.start(emptyList(), null)
        assertEquals(listOf("3", "2", "1"), screens.last().lines.map { it.key })
        recommender.click("3")
        assertEquals(listOf("2", "1"), screens.last().lines.map { it.key })
        assertEquals(listOf("3"), screens.last().history)
        listOf("1", "2").forEach(recommender::click)
        assertEquals(3, screens.last().lines.size)
    }

    @Test
    fun `an earlier life's clicks, and a cloud that comes and goes`() {
        recommender.start(listOf("1", "2"), "http://server")
        assertEquals("1.375", screens.last().lines.first().score)
        assertTrue(screens.last().status.startsWith("corrected in"))
        recommender.useCloud(null)
        assertEquals("0.375", screens.last().lines.first().score)
        assertTrue(screens.last().status.startsWith("alone in"))
    }
}
