package org.cocorrrec.executorch

import java.io.File
import java.io.IOException
import org.cocorrrec.recommending.Contract
import org.cocorrrec.recommending.ElementType
import org.cocorrrec.recommending.EntryPoint
import org.cocorrrec.recommending.Program
import org.cocorrrec.recommending.TensorSpec
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import org.cocorrrec.recommending.Tensor as Numbers

/** `scn.pte` of `cocorr-export scn --target executorch`. */
class ExecuTorchProgram(file: File, contract: Contract) : Program {
    private val module = Module.load(file.path, Module.LOAD_MODE_MMAP, 1)

    init {
        for (entryPoint in contract.entryPoints) {
            if (module.loadMethod(entryPoint.name) != 0) {
                close()
                throw IOException("$file has no method ${entryPoint.name} that this library can run")
            }
        }
    }

    override fun run(entryPoint: EntryPoint, inputs: List<Numbers>): List<Numbers> {
        val values = entryPoint.inputs.zip(inputs) { spec, numbers -> EValue.from(tensor(spec, numbers)) }
        val outputs = module.execute(entryPoint.name, *values.toTypedArray())
        return entryPoint.outputs.zip(outputs.asList()) { spec, value -> numbers(spec, value.toTensor()) }
    }

    override fun close() = module.destroy()

    private fun tensor(spec: TensorSpec, numbers: Numbers): Tensor {
        val shape = spec.shape.map { it.toLong() }.toLongArray()
        return when (numbers) {
            is Numbers.Ints -> Tensor.fromBlob(numbers.values, shape)
            is Numbers.Floats -> Tensor.fromBlob(numbers.values, shape)
        }
    }

    private fun numbers(spec: TensorSpec, tensor: Tensor): Numbers = when (spec.type) {
        ElementType.INT32 -> Numbers.Ints(tensor.dataAsIntArray)
        ElementType.FLOAT32 -> Numbers.Floats(tensor.dataAsFloatArray)
    }
}
