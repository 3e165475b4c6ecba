package org.cocorrrec.recommending

import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** Bodies of the Open Inference Protocol v2 with binary tensors. */
internal object OpenInference {
    const val JSON_BYTES = "Inference-Header-Content-Length"
    private val DATATYPES = mapOf(ElementType.FLOAT32 to "FP32", ElementType.INT32 to "INT32")

    class Request(val body: ByteArray, val jsonBytes: Int)

    /** A request of one user for every output in binary. */
    fun request(spec: TensorSpec, input: Tensor): Request {
        val tensor = JSONObject()
            .put("name", spec.name)
            .put("shape", JSONArray(spec.shape))
            .put("datatype", DATATYPES.getValue(spec.type))
            .put("parameters", JSONObject().put("binary_data_size", 4 * input.size))
        val json = JSONObject()
            .put("inputs", JSONArray().put(tensor))
            .put("parameters", JSONObject().put("binary_data_output", true))
            .toString().toByteArray()
        val body = ByteBuffer.allocate(json.size + 4 * input.size).order(ByteOrder.LITTLE_ENDIAN)
        body.put(json)
        when (input) {
            is Tensor.Ints -> input.values.forEach { body.putInt(it) }
            is Tensor.Floats -> input.values.forEach { body.putFloat(it) }
        }
        return Request(body.array(), json.size)
    }

    /** The tensors of an answer, in the order of [outputs]. */
    fun answer(body: ByteArray, jsonBytes: Int, outputs: List<TensorSpec>): List<FloatArray> {
        if (jsonBytes !in 1..body.size) throw IOException("an answer without binary tensors")
        val found = mutableMapOf<String, FloatArray>()
        val rest = ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN)
        rest.position(jsonBytes)
        for (output in parse(String(body, 0, jsonBytes)).getJSONArray("outputs").objects()) {
            val spec = outputs.find { it.name == output.getString("name") } ?: continue
            val size = output.optJSONObject("parameters")?.optInt("binary_data_size", -1)
            if (size != 4 * spec.count || rest.remaining() < size || output.getJSONArray("shape").ints() != spec.shape) {
                throw IOException("'${spec.name}' is not ${spec.shape} of float32")
            }
            found[spec.name] = FloatArray(spec.count) { rest.getFloat() }
        }
        if (rest.hasRemaining()) throw IOException("${rest.remaining()} bytes too many")
        return outputs.map { spec ->
            val values = found[spec.name] ?: throw IOException("no '${spec.name}' in the answer")
            if (values.any { it.isNaN() || it.isInfinite() }) throw IOException("'${spec.name}' has values that are not finite")
            values
        }
    }

    /** What the metadata of a model say that it takes and gives, for one user. */
    fun contract(json: String): CloudContract {
        val metadata = parse(json)
        val inputs = tensors(metadata.getJSONArray("inputs"))
        if (inputs.size != 1) throw IOException("the server's model takes ${inputs.size} inputs")
        return CloudContract(inputs.single(), tensors(metadata.getJSONArray("outputs")))
    }

    private fun tensors(specs: JSONArray): List<TensorSpec> = specs.objects().map {
        val type = DATATYPES.entries.find { (_, name) -> name == it.getString("datatype") }?.key
            ?: throw IOException("'${it.getString("name")}' is ${it.getString("datatype")}")
        TensorSpec(it.getString("name"), type, listOf(1) + it.getJSONArray("shape").ints().drop(1))
    }

    private fun parse(json: String): JSONObject = try {
        JSONObject(json)
    } catch (error: JSONException) {
        throw IOException("not an answer of the protocol: ${error.message}")
    }
}
