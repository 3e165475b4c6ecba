package org.cocorrrec.recommending

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.URL
import java.util.Timer
import java.util.TimerTask
import org.json.JSONException
import org.json.JSONObject

/** The server answered with an error. */
class RefusedException(val status: Int, message: String) : IOException("the server answered $status: $message")

/**
 * Asks a `cocorr-serve gcn`, or any server of the Open Inference Protocol, for corrections. The platform keeps the
 * connection open between calls. Nothing is sent twice: an answer that fails costs the correction alone.
 *
 * @param address `https://host:port`, with a path if the server has one.
 * @param version [Contract.version]: a server with other weights refuses with 404.
 * @param token bearer token.
 * @param limitMillis of a whole call, connecting and reading included.
 */
class GcnClient(
    address: String,
    version: String,
    model: String = "gcn",
    private val token: String? = null,
    private val limitMillis: Int = 5000,
) : Cloud {
    private val root = "${address.trimEnd('/')}/v2/models/$model/versions/$version"

    @Volatile
    private var contract: CloudContract? = null

    override fun contract(): CloudContract = contract ?: call(URL(root), null) { connection, deadline ->
        OpenInference.contract(String(read(connection, deadline)))
    }.also { contract = it }

    override fun correct(input: Tensor): List<FloatArray> {
        val contract = contract()
        val request = OpenInference.request(contract.input, input)
        return call(URL("$root/infer"), request) { connection, deadline ->
            val jsonBytes = connection.getHeaderField(OpenInference.JSON_BYTES)?.toIntOrNull() ?: 0
            OpenInference.answer(read(connection, deadline), jsonBytes, contract.outputs)
        }
    }

    private fun <T> call(url: URL, request: OpenInference.Request?, answer: (HttpURLConnection, Long) -> T): T {
        val deadline = System.nanoTime() + limitMillis * 1_000_000L
        val connection = url.openConnection() as HttpURLConnection
        // The platform's own limits are of a single read: a server that sends a byte now and then would hold the call.
        // Again and again, since it does nothing to a call that is about to connect; and of a body that is being read it
        // waits for the reader, who therefore looks at the clock too.
        val limit = object : TimerTask() {
            override fun run() = connection.disconnect()
        }
        clock.schedule(limit, limitMillis.toLong(), AGAIN_MILLIS)
        try {
            connection.connectTimeout = limitMillis
            connection.readTimeout = limitMillis
            connection.useCaches = false
            token?.let { connection.setRequestProperty("Authorization", "Bearer $it") }
            request?.let { send(connection, it) }
            if (connection.responseCode != HttpURLConnection.HTTP_OK) throw refused(connection, deadline)
            return answer(connection, deadline)
        } catch (error: JSONException) {
            throw IOException("not an answer of the protocol: ${error.message}")
        } finally {
            limit.cancel()
        }
    }

    private fun send(connection: HttpURLConnection, request: OpenInference.Request) {
        connection.requestMethod = "POST"
        connection.doOutput = true
        connection.setRequestProperty("Content-Type", "application/octet-stream")
        connection.setRequestProperty(OpenInference.JSON_BYTES, request.jsonBytes.toString())
        // Of a body that is streamed the platform keeps no copy, so it cannot send it again by itself.
        connection.setFixedLengthStreamingMode(request.body.size)
        connection.outputStream.use { it.write(request.body) }
    }

    private fun refused(connection: HttpURLConnection, deadline: Long): RefusedException {
        val text = connection.errorStream?.use { String(it.bounded(deadline)) }.orEmpty()
        val message = try {
            JSONObject(text).getString("error")
        } catch (_: JSONException) {
            text.take(200)
        }
        return RefusedException(connection.responseCode, message)
    }

    /** The whole body, so that the connection can be used again. */
    private fun read(connection: HttpURLConnection, deadline: Long): ByteArray {
        val declared = connection.contentLength
        val body = connection.inputStream.use { it.bounded(deadline) }
        if (declared >= 0 && body.size != declared) throw IOException("an answer of ${body.size} bytes, not of $declared")
        return body
    }

    private companion object {
        const val MAX_BYTES = 1 shl 20
        const val AGAIN_MILLIS = 100L
        val clock = Timer("cocorrrec-limits", true)

        /** All bytes, of at most [MAX_BYTES] and until [deadline], in nanoseconds of the system's clock. */
        fun InputStream.bounded(deadline: Long): ByteArray {
            val bytes = ByteArrayOutputStream()
            val buffer = ByteArray(8192)
            while (true) {
                val count = read(buffer)
                if (count < 0) return bytes.toByteArray()
                bytes.write(buffer, 0, count)
                if (System.nanoTime() - deadline > 0) throw IOException("no whole answer within the limit")
                if (bytes.size() > MAX_BYTES) throw IOException("an answer of more than $MAX_BYTES bytes")
            }
        }
    }
}
