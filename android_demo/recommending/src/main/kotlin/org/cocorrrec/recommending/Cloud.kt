package org.cocorrrec.recommending

/** What a server takes and gives; the shapes are those of one user. */
data class CloudContract(val input: TensorSpec, val outputs: List<TensorSpec>)

/** The cloud model, wherever it is. May be asked by several threads. */
interface Cloud {
    /** What it takes and gives. Asked before the first upload, which also opens the connection. */
    fun contract(): CloudContract

    /** Its answer for one user, in the order of [CloudContract.outputs]; blocks. */
    fun correct(input: Tensor): List<FloatArray>
}

/** A server of another model than the phone's. */
class IncompatibleException(message: String) : Exception(message)

/** What the phone has to send to this server, or an exception that names how the two differ. */
internal fun CloudContract.check(phone: Contract) {
    val encoded = if ("encode" in phone) phone["encode"].outputs.single() else null
    val uploads = if (encoded == null) input.name == "ids" && input.type == ElementType.INT32 else input == encoded
    if (!uploads || outputs.toSet() != phone.correction.toSet()) {
        val takes = encoded?.name ?: "ids"
        throw IncompatibleException(
            "the phone's model sends $takes and takes ${phone.correction.joinToString { it.name }}, " +
                "the server takes ${input.name} and answers ${outputs.joinToString { it.name }}",
        )
    }
}
