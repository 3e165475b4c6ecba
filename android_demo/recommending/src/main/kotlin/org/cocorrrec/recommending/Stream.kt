package org.cocorrrec.recommending

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.IOException

/**
 * A history of any length at a constant cost per click: the program's `step` learns from each click, and what it has
 * learned is a few kilobytes that the app keeps. [Scn.score] ranks with [user].
 */
class Stream private constructor(private val scn: Scn, private var state: List<Tensor>, user: FloatArray?) {
    /** The user after the last click; null before the first. */
    var user: FloatArray? = user
        private set

    /** A new stream. */
    constructor(scn: Scn) : this(scn, start(scn.contract["step"]), null)

    fun click(item: Int) {
        val outputs = scn.step(item, state)
        val names = scn.contract["step"].outputs.map { it.name }
        val byName = names.zip(outputs).toMap()
        state = stateOf(scn.contract["step"]).map { byName.getValue(it.name + "_next") }
        user = (byName.getValue("user") as Tensor.Floats).values
    }

    /** What [restore] takes, for the app to keep across the death of its process. */
    fun save(): ByteArray {
        val bytes = ByteArrayOutputStream()
        DataOutputStream(bytes).use { out ->
            out.writeUTF(scn.contract.version)
            out.writeBoolean(user != null)
            (state + listOfNotNull(user?.let { Tensor.Floats(it) })).forEach { write(out, it) }
        }
        return bytes.toByteArray()
    }

    companion object {
        /**
         * A stream that resumes where [save] was called.
         *
         * @throws IOException the bytes are of other weights, or damaged: start a new stream and click again.
         */
        fun restore(scn: Scn, saved: ByteArray): Stream = DataInputStream(ByteArrayInputStream(saved)).use { from ->
            val version = from.readUTF()
            if (version != scn.contract.version) throw IOException("a stream of version $version, the program is ${scn.contract.version}")
            val hasUser = from.readBoolean()
            val entryPoint = scn.contract["step"]
            val state = stateOf(entryPoint).map { read(from, it) }
            val user = if (hasUser) read(from, entryPoint.outputs.first { it.name == "user" }) as Tensor.Floats else null
            if (from.read() >= 0) throw IOException("a stream with bytes too many")
            Stream(scn, state, user?.values)
        }

        private fun stateOf(step: EntryPoint): List<TensorSpec> = step.inputs.filter { it.name != "item" }

        /** Zeros with position -1: the program then starts from its learned weights. */
        private fun start(step: EntryPoint): List<Tensor> = stateOf(step).map {
            if (it.type == ElementType.INT32) Tensor.Ints(IntArray(it.count) { -1 }) else Tensor.Floats(FloatArray(it.count))
        }

        private fun write(out: DataOutputStream, tensor: Tensor) = when (tensor) {
            is Tensor.Ints -> tensor.values.forEach(out::writeInt)
            is Tensor.Floats -> tensor.values.forEach(out::writeFloat)
        }

        private fun read(from: DataInputStream, spec: TensorSpec): Tensor = when (spec.type) {
            ElementType.INT32 -> Tensor.Ints(IntArray(spec.count) { from.readInt() })
            ElementType.FLOAT32 -> Tensor.Floats(FloatArray(spec.count) { from.readFloat().also { x -> if (x.isNaN()) throw IOException("a stream with NaN") } })
        }
    }
}
