package mobileclf.classifier

/** What a file's bytes are, found without decoding. */
sealed interface Container {
    /**
     * A photo that may be decoded.
     *
     * width, height: as stored. orientation: 1 to 8, how it is to be turned. stream: the file
     * without colour profiles, since Android would convert by them and `mobileclf` does not.
     * exact: Android decodes this kind to the same bytes as `mobileclf`; else an answer holds only
     * within the kernel bound.
     */
    class Photo(
        val kind: Kind,
        val width: Int,
        val height: Int,
        val orientation: Int,
        val stream: Pieces,
    ) : Container {
        val exact: Boolean get() = kind != Kind.HEIC
    }

    /** A file that gets no verdict, in the words in which `mobileclf` refuses it. */
    data class Refused(val why: String) : Container
}

enum class Kind { JPEG, PNG, WEBP, GIF, BMP, HEIC }

internal const val BROKEN = "broken or cut short"

/**
 * What `data` holds, refused as `mobileclf` refuses it: other kinds, files that are not complete,
 * kinds that Android decodes otherwise, and more than `maxPixels` pixels. Never throws.
 *
 * Android's decoder must not be asked instead: of a photo cut at 60 % it makes a picture.
 */
fun inspect(data: ByteArray, maxPixels: Long): Container = try {
    val found = refusal(data)?.let { Container.Refused(it) } ?: read(data)
    if (found is Container.Photo) sized(found, maxPixels) else found
} catch (_: Exception) { // reading past the end of a broken file
    Container.Refused(BROKEN)
}

private fun sized(photo: Container.Photo, maxPixels: Long): Container {
    val (width, height) = photo.width to photo.height
    return when {
        width < 1 || height < 1 -> Container.Refused(BROKEN)
        width.toLong() * height > maxPixels ->
            Container.Refused("photo too large: $width x $height pixels, at most $maxPixels are read")
        else -> photo
    }
}

private fun read(data: ByteArray): Container = when {
    data.says("\u00ff\u00d8") -> jpeg(data)
    data.says(PNG_SIGNATURE) -> png(data)
    data.says("RIFF") -> webp(data)
    data.says("GIF87a") || data.says("GIF89a") -> gif(data)
    data.says("BM") -> bmp(data)
    isHeif(data) -> heif(data)
    else -> Container.Refused("not a picture that is read here")
}

private const val NOT_ALIKE = "which phones do not decode alike"
private const val NOT_DECODED = "which phones do not decode"

/** What often lies among photos and is none, by its first bytes. */
private val OTHER_KINDS = listOf(
    "II*\u0000" to "TIFF or DNG, $NOT_ALIKE",
    "MM\u0000*" to "TIFF or DNG, $NOT_ALIKE",
    "II+\u0000" to "TIFF or DNG, $NOT_ALIKE",
    "MM\u0000+" to "TIFF or DNG, $NOT_ALIKE",
    "\u0000\u0000\u0001\u0000" to "ICO, $NOT_ALIKE",
    "version https://git-lfs" to "a Git LFS pointer, not the picture",
    "\u0000\u0000\u0000\u000cjP  " to "JPEG 2000, $NOT_DECODED",
    "\u00ff\u004f\u00ff\u0051" to "JPEG 2000, $NOT_DECODED",
    "\u0000\u0000\u0000\u000cJXL " to "JPEG XL, $NOT_DECODED",
    "\u00ff\u000a" to "JPEG XL, $NOT_DECODED",
    "%PDF" to "a PDF, not a picture",
    "PK\u0003\u0004" to "a zip, not a picture",
)

private fun refusal(data: ByteArray): String? {
    if (data.isEmpty()) return "an empty file"
    if (data.all { it == 0.toByte() }) return "nothing but zero bytes"
    OTHER_KINDS.firstOrNull { (start, _) -> data.says(start) }?.let { return it.second }
    return text(data) ?: "AVIF, which phones before Android 12 do not decode".takeIf { isAvif(data) }
}

private fun text(data: ByteArray): String? {
    val head = data.latin(0, minOf(data.size, 1000)).removePrefix("\u00ef\u00bb\u00bf")
        .trimStart(' ', '\t', '\n', '\r', '\u000b', '\u000c')
    if (!head.startsWith("<")) return null
    return when {
        head.contains("<html", ignoreCase = true) || head.contains("<!doctype html", ignoreCase = true) ->
            "a web page (HTML), as a failed download leaves"
        head.contains("<svg", ignoreCase = true) -> "SVG, which is a drawing and no photo"
        else -> null
    }
}
