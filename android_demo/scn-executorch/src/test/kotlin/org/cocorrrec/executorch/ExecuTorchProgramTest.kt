package org.cocorrrec.executorch

import java.io.File
import org.cocorrrec.recommending.Scn
import org.cocorrrec.tests.Export
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

/** The program of a phone, over the libraries of the executorch wheel. */
class ExecuTorchProgramTest {
    private val export = Export(File(System.getProperty("demo.build"), "exports/scn-executorch-int8"))
    private val file = File(export.folder, "scn.pte")

    @Test
    fun `every entry point gives what the model gives`() {
        ExecuTorchProgram(file, export.contract).use { println("executorch int8: ${export.check(it)}") }
    }

    @Test
    fun `a restored stream resumes`() {
        Scn(ExecuTorchProgram(file, export.contract), export.contract).use(export::checkStream)
    }

    @Test
    fun `a ranking takes little time`() {
        Scn(ExecuTorchProgram(file, export.contract), export.contract).use { println("executorch int8: rank p50 ${export.rankMicros(it)} us") }
    }

    @Test
    fun `what is not a program is refused`() {
        val manifest = File(export.folder, "manifest.json")
        assertThrows(IllegalStateException::class.java) { ExecuTorchProgram(manifest, export.contract) }
    }
}
