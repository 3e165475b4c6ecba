package org.cocorrrec.recommending

import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class PhoneTest {
    private val scn = Scn(StandInProgram(), SMALL)
    private val network = Executors.newCachedThreadPool { Thread(it).apply { isDaemon = true } }
    private val model = Executors.newSingleThreadExecutor { Thread(it).apply { isDaemon = true } }
    private val contract = CloudContract(TensorSpec("ids", ElementType.INT32, listOf(1, 6)), SMALL.correction)

    private fun cloud(answer: (Tensor) -> List<FloatArray>) = object : Cloud {
        override fun contract() = contract
        override fun correct(input: Tensor) = answer(input)
    }

    private fun history(vararg ids: Int) = History(numbered(49)).apply { ids.forEach { add("$it") } }

    @Test
    fun `a cloud that reads more clicks than the phone gets more`() {
        var seen = IntArray(0)
        val cloud = cloud { input ->
            seen = (input as Tensor.Ints).values
            listOf(floatArrayOf(1f, 0f))
        }
        val ranking = Phone(scn, cloud, 10_000, network, model).rank(history(1, 2, 3, 4, 5), intArrayOf(8, 16))
        assertArrayEquals(intArrayOf(1, 2, 3, 4, 5, 0), seen)
        assertTrue(ranking.corrected)
        assertArrayEquals(floatArrayOf(2f, 3f), ranking.scores)
    }

    @Test
    fun `a slow cloud does not hold the phone`() {
        val never = CountDownLatch(1)
        val phone = Phone(scn, cloud { never.await(); emptyList() }, 50, network, model)
        val start = System.nanoTime()
        assertFalse(phone.rank(history(1), intArrayOf(1)).corrected)
        assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(2))
    }

    @Test
    fun `a late answer does not replace a newer list`() {
        val release = CountDownLatch(1)
        var calls = 0
        val cloud = cloud {
            if (calls++ == 0) release.await()
            listOf(floatArrayOf(1f, 0f))
        }
        val phone = Phone(scn, cloud, 1000, network, model)
        var reranked = 0
        phone.rank(history(1), intArrayOf(1)) { reranked++ }
        phone.rank(history(1, 2), intArrayOf(1))
        release.countDown()
        while (phone.counts.late == 0) Thread.sleep(1)
        model.submit {}.get()
        assertEquals(0, reranked)
        assertEquals(1, phone.counts.late)
    }

    @Test
    fun `a server of another kind is refused by name`() {
        val kernels = CloudContract(TensorSpec("H", ElementType.FLOAT32, listOf(1, 4, 8)), listOf(TensorSpec("k_b", ElementType.FLOAT32, listOf(1, 4))))
        val error = assertThrows(IncompatibleException::class.java) { kernels.check(SMALL) }
        assertEquals("the phone's model sends ids and takes vector, the server takes H and answers k_b", error.message)
        val phone = Phone(scn, object : Cloud {
            override fun contract() = kernels
            override fun correct(input: Tensor) = error("must not be asked")
        }, 10_000, network, model)
        assertFalse(phone.rank(history(1), intArrayOf(1)).corrected)
        assertEquals(1, phone.counts.failed)
    }

    @Test
    fun `without a cloud it ranks alone and sends nothing`() {
        val phone = Phone(scn, null, 10_000, network, model)
        assertArrayEquals(floatArrayOf(.125f), phone.rank(history(1), intArrayOf(1)).scores)
        assertEquals(Counts(alone = 1), phone.counts)
    }
}
