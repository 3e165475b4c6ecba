package org.cocorrrec.recommending

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

class ExchangeTest {
    private val correction = Correction(emptyList())

    @Test
    fun `an answer in time is taken once`() {
        val exchange = Exchange()
        exchange.answer(correction)
        assertEquals(State.ANSWERED, exchange.state)
        assertSame(correction, exchange.take())
        assertEquals(State.FUSED, exchange.state)
        assertThrows(IllegalStateException::class.java) { exchange.take() }
        assertNull(exchange.takeLate())
    }

    @Test
    fun `an answer after the ranking is late and can be taken once`() {
        val exchange = Exchange()
        assertNull(exchange.take())
        exchange.answer(correction)
        exchange.fail()
        assertEquals(State.LATE, exchange.state)
        assertSame(correction, exchange.takeLate())
        assertEquals(State.RERANKED, exchange.state)
        assertNull(exchange.takeLate())
    }

    @Test
    fun `a failure is not an answer`() {
        val exchange = Exchange()
        exchange.fail()
        exchange.answer(correction)
        assertEquals(State.FAILED, exchange.state)
        assertNull(exchange.take())
        assertEquals(State.ALONE, exchange.state)
    }
}
