package org.cocorrrec.tflite

import java.io.File
import org.cocorrrec.recommending.Scn
import org.cocorrrec.tests.Export
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

/** The x86_64 library of the AAR, the very one of the APK, over host/bionic.c. */
class TfliteProgramTest {
    private fun export(name: String) = Export(File(System.getProperty("demo.build"), "exports/$name"))

    private fun program(export: Export) = TfliteProgram(File(export.folder, "scn.tflite"))

    @ParameterizedTest
    @ValueSource(strings = ["scn-tflite-int8", "scn-tflite-int4"])
    fun `every entry point gives what the model gives`(name: String) {
        val export = export(name)
        program(export).use { println("$name: ${export.check(it)}") }
    }

    @Test
    fun `a restored stream resumes`() {
        val export = export("scn-tflite-int8")
        Scn(program(export), export.contract).use(export::checkStream)
    }

    @Test
    fun `a ranking takes little time`() {
        val export = export("scn-tflite-int8")
        Scn(program(export), export.contract).use { println("tflite int8: rank p50 ${export.rankMicros(it)} us") }
    }

    @Test
    fun `what is not a program is refused`() {
        assertThrows(IllegalArgumentException::class.java) { TfliteProgram(File(export("scn-tflite-int8").folder, "manifest.json")) }
    }

    companion object {
        @JvmStatic
        @BeforeAll
        fun bionic() = listOf("libc.so", "libm.so", "libdl.so", "liblog.so").forEach { System.load(File(System.getProperty("demo.bionic"), it).path) }
    }
}
