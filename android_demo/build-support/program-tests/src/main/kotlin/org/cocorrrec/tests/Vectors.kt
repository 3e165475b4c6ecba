package org.cocorrrec.tests

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.cocorrrec.recommending.ElementType
import org.cocorrrec.recommending.EntryPoint
import org.cocorrrec.recommending.Tensor
import org.cocorrrec.recommending.TensorSpec
import org.json.JSONArray
import org.json.JSONObject

/** `vectors.safetensors` of an export: the size of a JSON header, the header, the bytes. */
class Vectors(file: File) {
    private val bytes = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
    private val start = 8 + bytes.getLong(0).toInt()
    private val header = JSONObject(String(bytes.array(), 8, start - 8))

    class Case(val name: String, val inputs: List<Tensor>, val outputs: List<Tensor>)

    fun cases(entryPoint: EntryPoint): List<Case> {
        val names = header.keySet().filter { it.startsWith("${entryPoint.name}.") }.map { it.split('.')[1] }.toSortedSet()
        return names.map { case ->
            fun side(name: String, specs: List<TensorSpec>) =
                specs.mapIndexed { place, spec -> tensor("${entryPoint.name}.$case.$name.$place.${spec.name}", spec.type) }
            Case(case, side("in", entryPoint.inputs), side("out", entryPoint.outputs))
        }
    }

    private fun tensor(name: String, type: ElementType): Tensor {
        val place: JSONArray = header.getJSONObject(name).getJSONArray("data_offsets")
        val count = (place.getInt(1) - place.getInt(0)) / 4
        val at = { index: Int -> start + place.getInt(0) + 4 * index }
        return when (type) {
            ElementType.INT32 -> Tensor.Ints(IntArray(count) { bytes.getInt(at(it)) })
            ElementType.FLOAT32 -> Tensor.Floats(FloatArray(count) { bytes.getFloat(at(it)) })
        }
    }
}
