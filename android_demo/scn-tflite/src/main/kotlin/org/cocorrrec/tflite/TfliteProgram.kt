package org.cocorrrec.tflite

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.cocorrrec.recommending.ElementType
import org.cocorrrec.recommending.EntryPoint
import org.cocorrrec.recommending.Program
import org.cocorrrec.recommending.Tensor
import org.cocorrrec.recommending.TensorSpec
import org.tensorflow.lite.Interpreter

/** `scn.tflite` of `cocorr-export scn --target tflite`; each entry point is a signature. */
class TfliteProgram(file: File) : Program {
    private val interpreter = Interpreter(file, Interpreter.Options().setNumThreads(1))

    override fun run(entryPoint: EntryPoint, inputs: List<Tensor>): List<Tensor> {
        val given = entryPoint.inputs.zip(inputs) { spec, tensor -> spec.name to buffer(tensor) as Any }.toMap()
        val buffers = entryPoint.outputs.map { spec -> allocate(spec.count) }
        val taken = entryPoint.outputs.zip(buffers) { spec, buffer -> spec.name to buffer as Any }.toMap()
        interpreter.runSignature(given, taken, entryPoint.name)
        return entryPoint.outputs.zip(buffers, ::numbers)
    }

    override fun close() = interpreter.close()

    private fun allocate(count: Int): ByteBuffer = ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder())

    private fun buffer(tensor: Tensor): ByteBuffer {
        val buffer = allocate(tensor.size)
        when (tensor) {
            is Tensor.Ints -> buffer.asIntBuffer().put(tensor.values)
            is Tensor.Floats -> buffer.asFloatBuffer().put(tensor.values)
        }
        return buffer
    }

    private fun numbers(spec: TensorSpec, buffer: ByteBuffer): Tensor {
        buffer.rewind()
        return when (spec.type) {
            ElementType.INT32 -> Tensor.Ints(IntArray(spec.count).also { buffer.asIntBuffer().get(it) })
            ElementType.FLOAT32 -> Tensor.Floats(FloatArray(spec.count).also { buffer.asFloatBuffer().get(it) })
        }
    }
}
