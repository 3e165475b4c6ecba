package org.cocorrrec.recommending

import java.io.File
import java.io.IOException
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

class ProgramFileTest {
    @TempDir
    lateinit var folder: File
    private val program = "program".toByteArray()
    private val other = "0".repeat(64)
    private var opened = 0

    private fun manifest(bytes: Int = program.size, digest: String = digest(program)) =
        """{"files": [{"path": "scn.tflite", "bytes": $bytes, "sha256": "$digest"}]}"""

    private fun digest(bytes: ByteArray) = java.security.MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

    private fun install(manifest: String, bytes: ByteArray = program) = ProgramFile.install("scn.tflite", manifest, folder) {
        opened++
        bytes.inputStream()
    }

    @Test
    fun `it is copied once, and again where the copy is damaged`() {
        assertArrayEquals(program, install(manifest()).readBytes())
        install(manifest())
        assertEquals(1, opened)
        File(folder, "scn.tflite").writeText("damaged")
        assertArrayEquals(program, install(manifest()).readBytes())
        assertEquals(2, opened)
    }

    @Test
    fun `a new version takes the place of the old one`() {
        install(manifest())
        val next = "another".toByteArray()
        assertArrayEquals(next, install(manifest(next.size, digest(next)), next).readBytes())
    }

    @Test
    fun `what the manifest does not vouch for is refused and leaves nothing`() {
        assertThrows(IOException::class.java) { install(manifest(digest = other)) }
        assertThrows(IOException::class.java) { install(manifest(bytes = 8)) }
        assertThrows(IOException::class.java) { install("""{"files": []}""") }
        assertEquals(emptyList<String>(), folder.list().orEmpty().toList())
    }
}
