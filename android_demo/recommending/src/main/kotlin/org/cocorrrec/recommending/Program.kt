package org.cocorrrec.recommending

/** The numbers of one tensor, row by row. */
sealed class Tensor {
    abstract val size: Int

    class Ints(val values: IntArray) : Tensor() {
        override val size get() = values.size
    }

    class Floats(val values: FloatArray) : Tensor() {
        override val size get() = values.size
    }
}

/** An exported program, whatever runtime it is on. One thread at a time. */
interface Program : AutoCloseable {
    /** Runs an entry point; inputs and outputs are in the order of its contract, and of its sizes. */
    fun run(entryPoint: EntryPoint, inputs: List<Tensor>): List<Tensor>
}
