package org.cocorrrec.recommending

import org.json.JSONArray
import org.json.JSONObject

enum class ElementType { FLOAT32, INT32 }

/** One input or output of an entry point. */
data class TensorSpec(val name: String, val type: ElementType, val shape: List<Int>) {
    val count: Int get() = shape.fold(1) { product, size -> product * size }
}

/** One function of the exported program; inputs and outputs in the order in which they are passed. */
data class EntryPoint(val name: String, val inputs: List<TensorSpec>, val outputs: List<TensorSpec>)

/**
 * What the exported program takes and gives, as its manifest says it.
 *
 * @property version which weights it has: a server of other weights refuses it.
 * @property vocabSize item ids are 1 to vocabSize - 1; 0 is padding.
 */
class Contract(val version: String, val vocabSize: Int, entryPoints: List<EntryPoint>) {
    private val byName = entryPoints.associateBy { it.name }

    /** All of them, in the order of the manifest. */
    val entryPoints: Collection<EntryPoint> get() = byName.values

    /** Clicks that the program reads. */
    val sequenceLength: Int = this["rank"].inputs.first { it.name == "ids" }.count

    /** Candidates of one call. */
    val candidates: Int = this["rank"].inputs.first { it.name == "candidates" }.count

    /** The tensors of a correction; empty if the program takes none. */
    val correction: List<TensorSpec> = byName["rank_corrected"]?.inputs.orEmpty().filter { it.name !in setOf("ids", "candidates") }

    operator fun get(name: String): EntryPoint =
        byName[name] ?: throw IllegalArgumentException("no entry point '$name': this program has ${byName.keys.joinToString()}")

    operator fun contains(name: String): Boolean = name in byName

    companion object {
        /** Digits of the weights' SHA-256 that name a version. */
        private const val VERSION_DIGITS = 16

        /** Reads `manifest.json` of an export. */
        fun parse(manifest: String, vocabSize: Int): Contract {
            val json = JSONObject(manifest)
            val version = json.getJSONObject("model").getString("sha256").take(VERSION_DIGITS)
            return Contract(version, vocabSize, parseEntryPoints(json.getJSONArray("entry_points")))
        }

        fun parseEntryPoints(entries: JSONArray): List<EntryPoint> = entries.objects().map {
            EntryPoint(it.getString("name"), tensors(it.getJSONArray("inputs")), tensors(it.getJSONArray("outputs")))
        }

        private fun tensors(specs: JSONArray): List<TensorSpec> = specs.objects().map {
            val type = when (val dtype = it.getString("dtype")) {
                "float32" -> ElementType.FLOAT32
                "int32" -> ElementType.INT32
                else -> throw IllegalArgumentException("${it.getString("name")} is $dtype, neither float32 nor int32")
            }
            TensorSpec(it.getString("name"), type, it.getJSONArray("shape").ints())
        }
    }
}

internal fun JSONArray.objects(): List<JSONObject> = (0 until length()).map(::getJSONObject)

internal fun JSONArray.ints(): List<Int> = (0 until length()).map(::getInt)
