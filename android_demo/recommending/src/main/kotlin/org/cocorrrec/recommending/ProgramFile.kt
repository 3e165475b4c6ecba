package org.cocorrrec.recommending

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest
import org.json.JSONObject

/** The program as a file, which native runtimes map into memory: an asset of an app is none. */
object ProgramFile {
    /**
     * Copies the program out of the app, unless an intact copy is there, and checks size and SHA-256 by the manifest: a
     * native runtime may crash on a damaged file.
     *
     * @param open gives the program's bytes.
     * @return the file, which holds exactly what the manifest vouches for.
     */
    fun install(name: String, manifest: String, folder: File, open: () -> InputStream): File {
        val entries = JSONObject(manifest).getJSONArray("files").objects()
        val entry = entries.find { it.getString("path") == name } ?: throw IOException("the manifest does not name $name")
        val bytes = entry.getLong("bytes")
        val sha256 = entry.getString("sha256")
        val file = File(folder, name)
        if (isIntact(file, bytes, sha256)) return file
        val copy = File(folder, "$name.new")
        open().use { from -> copy.outputStream().use { from.copyTo(it) } }
        if (!isIntact(copy, bytes, sha256)) {
            copy.delete()
            throw IOException("$name is not the one that the manifest was written for")
        }
        if (!copy.renameTo(file)) throw IOException("cannot write $file")
        return file
    }

    private fun isIntact(file: File, bytes: Long, sha256: String): Boolean = file.length() == bytes && digest(file) == sha256

    private fun digest(file: File): String {
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { from ->
            val buffer = ByteArray(1 shl 16)
            while (true) {
                val count = from.read(buffer)
                if (count < 0) break
                digest.update(buffer, 0, count)
            }
        }
        return digest.digest().joinToString("") { "%02x".format(it) }
    }
}
