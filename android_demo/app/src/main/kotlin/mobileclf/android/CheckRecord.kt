package mobileclf.android

import android.content.Context
import android.os.Build
import mobileclf.classifier.Check
import mobileclf.classifier.sha256
import java.io.File
import java.io.IOException

/**
 * A passed self-check, kept while nothing changes that it depends on. A failed one is not kept: it
 * is run again at the next start.
 *
 * key: what it depends on. Another key, or a file that is not whole, is as no record.
 */
class CheckRecord(private val file: File, private val key: String) {
    fun read(): Check.Passed? {
        val lines = try {
            file.readLines()
        } catch (_: IOException) {
            return null
        }
        if (lines.size < 2 || lines.first() != key || lines.last() != END) return null
        val named = lines.subList(1, lines.size - 1)
        if (named.any { !it.startsWith(KERNELS) && !it.startsWith(DECODER) }) return null
        return Check.Passed(after(KERNELS, named), after(DECODER, named))
    }

    fun write(check: Check) {
        try {
            if (check is Check.Passed) file.writeText(text(check)) else file.delete()
        } catch (_: IOException) {
            file.delete() // a full disk costs a check at every start, no more
        }
    }

    private fun text(check: Check.Passed): String {
        val kernels = check.otherKernels.map { KERNELS + it }
        val decoder = check.otherDecoder.map { DECODER + it }
        return (listOf(key) + kernels + decoder + END).joinToString("\n")
    }

    private fun after(word: String, lines: List<String>) =
        lines.filter { it.startsWith(word) }.map { it.removePrefix(word) }
}

private const val KERNELS = "kernels "
private const val DECODER = "decoder "
private const val END = "end"

/** The self-check of this bundle by this app on this system. It is no part of a backup. */
fun checkRecord(context: Context, bundleJson: ByteArray): CheckRecord {
    val app = context.packageManager.getPackageInfo(context.packageName, 0)
    // The time of the last install, since a build that is tried out keeps its version.
    val parts = listOf(sha256(bundleJson), app.versionName, "${app.lastUpdateTime}", Build.FINGERPRINT)
    return CheckRecord(File(context.noBackupFilesDir, "self-check"), parts.joinToString(" "))
}
