package org.cocorrrec.recommending

import java.io.File
import org.json.JSONObject

/** The address that an environment variable names: the tests of servers are run by `make test-android`. */
fun address(variable: String): String = checkNotNull(System.getenv(variable)) { "$variable is not set: run make test-android" }

fun scenarios(name: String) = JSONObject(File(System.getProperty("demo.scenarios"), name).readText())

/** The model that the scenario file describes, and a `step` that counts. */
class StandInProgram : Program {
    override fun run(entryPoint: EntryPoint, inputs: List<Tensor>): List<Tensor> = when (entryPoint.name) {
        "encode" -> listOf(Tensor.Floats(encode((inputs[0] as Tensor.Ints).values, entryPoint.outputs[0].count)))
        "step" -> step(inputs)
        else -> listOf(Tensor.Floats(rank((inputs[1] as Tensor.Ints).values, inputs.drop(2))))
    }

    override fun close() = Unit

    private fun encode(ids: IntArray, count: Int) = FloatArray(count).also { h ->
        ids.forEachIndexed { place, id -> h[place * count / ids.size] = id.toFloat() }
    }

    private fun rank(candidates: IntArray, correction: List<Tensor>): FloatArray {
        val bonus = correction.withIndex().sumOf { (place, tensor) -> (place + 1.0) * (tensor as Tensor.Floats).values[0] }
        return FloatArray(candidates.size) { (candidates[it] / 8.0 + bonus).toFloat() }
    }

    /** The new sum is twice the old and the item: the order of clicks counts. */
    private fun step(inputs: List<Tensor>): List<Tensor> {
        val sum = (inputs[1] as Tensor.Floats).values[0] * 2 + (inputs[0] as Tensor.Ints).values[0]
        val position = (inputs[2] as Tensor.Ints).values[0] + 1
        return listOf(Tensor.Floats(floatArrayOf(sum)), Tensor.Ints(intArrayOf(position)), Tensor.Floats(floatArrayOf(sum, position.toFloat())))
    }
}

private val IDS = TensorSpec("ids", ElementType.INT32, listOf(1, 4))
private val CANDIDATES = TensorSpec("candidates", ElementType.INT32, listOf(1, 3))
private val SCORES = TensorSpec("scores", ElementType.FLOAT32, listOf(1, 3))
private val SUM = TensorSpec("sum", ElementType.FLOAT32, listOf(1))
private val POSITION = TensorSpec("position", ElementType.INT32, listOf(1))

/** A small model: 4 clicks, 3 candidates, ids to 49, a correction of 2 numbers. */
val SMALL = Contract(
    "0123456789abcdef",
    50,
    listOf(
        EntryPoint("rank", listOf(IDS, CANDIDATES), listOf(SCORES)),
        EntryPoint("rank_corrected", listOf(IDS, CANDIDATES, TensorSpec("vector", ElementType.FLOAT32, listOf(1, 2))), listOf(SCORES)),
        EntryPoint(
            "step",
            listOf(TensorSpec("item", ElementType.INT32, listOf(1)), SUM, POSITION),
            listOf(SUM.copy(name = "sum_next"), POSITION.copy(name = "position_next"), TensorSpec("user", ElementType.FLOAT32, listOf(1, 2))),
        ),
    ),
)

/** Items whose keys are their ids. */
fun numbered(count: Int) = Items("0123456789abcdef", List(count) { "${it + 1}" }, List(count) { "film ${it + 1}" })
