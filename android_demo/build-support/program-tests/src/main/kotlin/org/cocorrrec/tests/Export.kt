package org.cocorrrec.tests

import java.io.File
import kotlin.math.abs
import org.cocorrrec.recommending.Contract
import org.cocorrrec.recommending.History
import org.cocorrrec.recommending.Items
import org.cocorrrec.recommending.Program
import org.cocorrrec.recommending.Scn
import org.cocorrrec.recommending.Stream
import org.cocorrrec.recommending.Tensor
import org.json.JSONObject

/** The folder of an export, and what a program made of it has to do. */
class Export(val folder: File) {
    private val manifest = File(folder, "manifest.json").readText()
    private val vectors = Vectors(File(folder, "vectors.safetensors"))
    private val limits = JSONObject(manifest).getJSONObject("recipe").getJSONObject("parity")
    val contract = Contract.parse(manifest, VOCAB_SIZE)

    /** Runs every case of every entry point; what it measured, or an error that names the worst. */
    fun check(program: Program): String {
        val measured = contract.entryPoints.map { entryPoint ->
            val cases = vectors.cases(entryPoint)
            check(cases.size >= MIN_CASES) { "${entryPoint.name}: only ${cases.size} cases" }
            val worst = cases.maxOf { case ->
                val outputs = program.run(entryPoint, case.inputs)
                entryPoint.outputs.indices.maxOf { place ->
                    val name = "${entryPoint.name} ${case.name} ${entryPoint.outputs[place].name}"
                    difference(name, outputs[place], case.outputs[place], isScore = entryPoint.outputs[place].name == "scores")
                }
            }
            "${entryPoint.name} ${cases.size} cases, max ${"%.5f".format(worst)}"
        }
        return measured.joinToString("; ")
    }

    /** The largest difference, which must be within the limits that the export itself had to keep. */
    private fun difference(name: String, actual: Tensor, expected: Tensor, isScore: Boolean): Float {
        check(actual.size == expected.size) { "$name has ${actual.size} numbers, expected ${expected.size}" }
        if (expected is Tensor.Ints) {
            check((actual as Tensor.Ints).values.contentEquals(expected.values)) { "$name is not what the model gives" }
            return 0f
        }
        val want = (expected as Tensor.Floats).values
        val have = (actual as Tensor.Floats).values
        check(have.all { it.isFinite() }) { "$name is not finite" }
        val worst = want.indices.maxOf { abs(have[it] - want[it]) }
        val scale = want.maxOf { abs(it) }
        check(worst <= limits.getDouble("max_rel") * scale && (!isScore || worst <= limits.getDouble("max_abs"))) {
            "$name differs by $worst from the model, whose largest value is $scale"
        }
        return worst
    }

    /** A stream that was saved and restored resumes as if nothing had happened, and ends where `rank` reads the user. */
    fun checkStream(scn: Scn) {
        val clicks = listOf(5, 17, 3, 40, 2, 8, 21)
        val candidates = IntArray(50) { it + 1 }
        val whole = Stream(scn).apply { clicks.forEach(::click) }
        val first = Stream(scn).apply { clicks.take(CUT).forEach(::click) }
        val second = Stream.restore(scn, first.save()).apply { clicks.drop(CUT).forEach(::click) }
        check(whole.user.contentEquals(second.user)) { "a restored stream has another user" }
        val streamed = scn.score(checkNotNull(whole.user), candidates)
        val items = Items(scn.contract.version, (1 until VOCAB_SIZE).map(Int::toString), List(VOCAB_SIZE - 1) { "" })
        val history = History(items).apply { clicks.forEach { add(it.toString()) } }
        val ranked = scn.rank(history.ids(scn.contract.sequenceLength), candidates)
        val worst = candidates.indices.maxOf { abs(streamed[it] - ranked[it]) }
        val scale = maxOf(1f, ranked.maxOf { abs(it) })
        check(worst <= STREAM_TOLERANCE * scale) { "streaming and ranking differ by $worst" }
    }

    /** Median of a ranking in microseconds. */
    fun rankMicros(scn: Scn): Long {
        val ids = IntArray(contract.sequenceLength) { it + 1 }
        val candidates = IntArray(contract.candidates) { it + 1 }
        val nanos = List(CALLS) {
            val start = System.nanoTime()
            scn.rank(ids, candidates)
            System.nanoTime() - start
        }
        return nanos.drop(CALLS / 4).sorted()[CALLS * 3 / 8] / 1000
    }

    private companion object {
        const val MIN_CASES = 10
        const val CALLS = 400
        const val CUT = 4
        const val STREAM_TOLERANCE = 0.02f
        /** Any that is large enough: the cases keep to the program's own. */
        const val VOCAB_SIZE = 1000
    }
}
