package org.cocorrrec.recommending

import java.io.IOException
import java.net.InetAddress
import java.net.ServerSocket
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread
import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class GcnClientTest {
    private val contract = CloudContract(TensorSpec("ids", ElementType.INT32, listOf(1, 2)), listOf(TensorSpec("vector", ElementType.FLOAT32, listOf(1, 2))))
    private val metadata = """{"name": "gcn", "inputs": [{"name": "ids", "datatype": "INT32", "shape": [-1, 2]}],
        "outputs": [{"name": "vector", "datatype": "FP32", "shape": [-1, 2]}]}"""

    /** A server that gives its metadata, then does with each upload what the test says; the number of uploads. */
    private fun <T> server(uploads: AtomicInteger, infer: (java.io.OutputStream) -> Unit, test: (String) -> T): T =
        ServerSocket(0, 50, InetAddress.getByName("127.0.0.1")).use { socket ->
            thread(isDaemon = true) {
                while (true) {
                    val connection = try { socket.accept() } catch (_: IOException) { return@thread }
                    thread(isDaemon = true) { connection.use { serve(it, uploads, infer) } }
                }
            }
            test("http://127.0.0.1:${socket.localPort}/behind/a/path/")
        }

    private fun serve(connection: java.net.Socket, uploads: AtomicInteger, infer: (java.io.OutputStream) -> Unit) = try {
        val input = connection.getInputStream().buffered()
        while (true) {
            val head = generateSequence { line(input) }.takeWhile { it.isNotEmpty() }.toList()
            if (head.isEmpty()) break
            assertTrue(head[0].contains(" /behind/a/path/v2/models/gcn/versions/v1"))
            val length = head.firstOrNull { it.startsWith("Content-Length:", ignoreCase = true) }?.substringAfter(":")?.trim()?.toInt() ?: 0
            repeat(length) { input.read() }
            if (head[0].startsWith("GET")) {
                connection.getOutputStream().write("HTTP/1.1 200 OK\r\nContent-Length: ${metadata.length}\r\n\r\n$metadata".toByteArray())
            } else {
                uploads.incrementAndGet()
                infer(connection.getOutputStream())
                if (connection.isClosed) break
            }
        }
    } catch (_: IOException) {
        // The client has gone.
    }

    private fun line(input: java.io.InputStream): String? {
        val text = StringBuilder()
        while (true) {
            val byte = input.read()
            if (byte < 0) return null
            if (byte == '\n'.code) return text.trimEnd('\r').toString()
            text.append(byte.toChar())
        }
    }

    private val upload = Tensor.Ints(intArrayOf(3, 0))

    @Test
    fun `a call has one limit, however the bytes drip`() {
        val dripping = { out: java.io.OutputStream ->
            out.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".toByteArray())
            repeat(600) {
                out.write(32)
                out.flush()
                Thread.sleep(50)
            }
        }
        server(AtomicInteger(), dripping) { address ->
            val client = GcnClient(address, "v1", limitMillis = 400)
            val start = System.nanoTime()
            assertThrows(IOException::class.java) { client.correct(upload) }
            assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(5))
        }
    }

    @Test
    fun `nothing is sent twice`() {
        val uploads = AtomicInteger()
        server(uploads, { it.close() }) { address ->
            val client = GcnClient(address, "v1")
            assertThrows(IOException::class.java) { client.correct(upload) }
            assertEquals(1, uploads.get())
        }
    }

    @Test
    fun `an answer without end is not read to its end`() {
        val endless = { out: java.io.OutputStream ->
            out.write("HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 10\r\n\r\n".toByteArray())
            while (true) out.write(ByteArray(65536))
        }
        server(AtomicInteger(), endless) { address ->
            val error = assertThrows(IOException::class.java) { GcnClient(address, "v1").correct(upload) }
            assertTrue("more than" in error.message.orEmpty(), error.message)
        }
    }

    @Test
    fun `answers that are not of the protocol`() {
        val good = JSONObject("""{"outputs": [{"name": "vector", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]}""")
        fun answer(json: JSONObject, floats: Int): List<FloatArray> {
            val text = json.toString().toByteArray()
            return OpenInference.answer(text + ByteArray(4 * floats), text.size, contract.outputs)
        }
        fun changed(change: JSONObject.() -> Unit) = JSONObject(good.toString()).apply { getJSONArray("outputs").getJSONObject(0).change() }
        assertEquals(1, answer(good, 2).size)
        val wrong = listOf(
            good to 1, good to 3,
            changed { put("name", "other") } to 0,
            changed { put("shape", JSONArray(listOf(2, 1))) } to 2,
            changed { put("parameters", JSONObject()) } to 2,
            changed { remove("parameters") } to 2,
        )
        for ((json, floats) in wrong) assertThrows(IOException::class.java, { answer(json, floats) }, "$json $floats")
        for (jsonBytes in listOf(0, -1, 4000)) assertThrows(IOException::class.java) { OpenInference.answer(ByteArray(100), jsonBytes, contract.outputs) }
        assertThrows(IOException::class.java) { OpenInference.answer("[1]".toByteArray(), 3, contract.outputs) }
    }

    @Test
    fun `a real server answers, refuses other weights, and is gone`() {
        val address = address("COCORR_SERVER")
        val metadata = JSONObject(java.net.URL("$address/v2/models/gcn").readText())
        val version = metadata.getJSONArray("versions").getString(0)
        val client = GcnClient(address, version)
        val input = client.contract().input
        val upload = if (input.type == ElementType.INT32) Tensor.Ints(IntArray(input.count) { it + 1 }) else Tensor.Floats(FloatArray(input.count) { it % 7 / 7f })
        val micros = List(50) {
            val start = System.nanoTime()
            val answer = client.correct(upload)
            assertEquals(client.contract().outputs.map { it.count }, answer.map { it.size })
            (System.nanoTime() - start) / 1000
        }
        println("server's round trip: p50 ${micros.drop(10).sorted()[20]} us, first ${micros[0]} us")
        val refused = assertThrows(RefusedException::class.java) { GcnClient(address, "0000000000000000").contract() }
        assertEquals(404, refused.status)
        assertThrows(IOException::class.java) { GcnClient("http://127.0.0.1:9", version).contract() }
    }
}
