package mobileclf.android

import android.net.Uri
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.UUID

/** What came of a photo that was handed over. */
sealed interface Kept {
    data class Photo(val name: String) : Kept
    data class Refused(val why: Reason) : Kept

    enum class Reason { UNREADABLE, EMPTY, TOO_LARGE }
}

/**
 * Copies of photos in one folder. What lends a photo takes it back when the task ends, so it is
 * copied once, and the copy's name outlives the process.
 */
class PhotoStore(private val folder: File, private val limit: Long = LIMIT) {
    /** A name that no photo has. */
    fun fresh(): String = "${UUID.randomUUID()}$SUFFIX"

    /** Where the photo of that name lies; null for what [fresh] never gave. */
    fun file(name: String): File? = File(folder, name).takeIf { NAME.matches(name) && folder() }

    fun keep(open: () -> InputStream?): Kept {
        val name = fresh()
        val file = file(name) ?: return Kept.Refused(Kept.Reason.UNREADABLE)
        val copied = try {
            open()?.use { copy(it, file) } ?: return Kept.Refused(Kept.Reason.UNREADABLE)
        } catch (_: Exception) { // whatever another app's provider raises, a full disk too
            file.delete()
            return Kept.Refused(Kept.Reason.UNREADABLE)
        }
        if (copied in 1..limit) return Kept.Photo(name)
        file.delete()
        return Kept.Refused(if (copied == 0L) Kept.Reason.EMPTY else Kept.Reason.TOO_LARGE)
    }

    /** A photo's bytes; null where it is gone. */
    fun read(name: String): ByteArray? = try {
        file(name)?.takeIf { it.length() in 1..limit }?.readBytes()
    } catch (_: IOException) {
        null
    }

    /** Deletes what was not touched since `time`. */
    fun tidy(time: Long) {
        folder.listFiles()?.filter { it.lastModified() < time }?.forEach { it.delete() }
    }

    private fun folder() = folder.isDirectory || folder.mkdirs()

    /** Returns how many bytes there were, or one more than the limit. */
    private fun copy(from: InputStream, to: File): Long = to.outputStream().use { out ->
        val piece = ByteArray(1 shl 16)
        var total = 0L
        while (total <= limit) {
            val count = from.read(piece)
            if (count < 0) return total
            out.write(piece, 0, count)
            total += count
        }
        limit + 1
    }
}

private const val LIMIT = 64L shl 20 // a photo of 108 megapixels is half of that
private const val SUFFIX = ".photo"
private val NAME = Regex("[0-9a-f-]{36}\\.photo")

/**
 * Whether an app may be asked to read `uri` for another: content alone, since by a file's path it
 * could be made to show its own files; and not its own content, for the same reason.
 */
fun isForeignContent(uri: Uri, own: String): Boolean =
    uri.scheme == "content" && uri.authority?.substringAfterLast('@').let { it != null && it != own }
