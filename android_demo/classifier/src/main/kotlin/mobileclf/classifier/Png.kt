package mobileclf.classifier

import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

internal const val PNG_SIGNATURE = "\u0089PNG\r\n\u001a\n"
private val COLOUR = setOf("iCCP", "gAMA", "cHRM", "sRGB", "cICP")
private const val LARGEST_TEXT = 1 shl 20
private const val XMP_NAME = "XML:com.adobe.xmp"

/** Walks the chunks to IEND with their checksums. */
internal fun png(data: ByteArray): Container {
    val notes = PngNotes()
    val profiles = ArrayList<Pair<Int, Int>>()
    var size: Pair<Int, Int>? = null
    var at = PNG_SIGNATURE.length
    while (true) {
        if (at + 12 > data.size) return Container.Refused("PNG cut short")
        val length = data.u32be(at)
        if (at + 12 + length > data.size) return Container.Refused("PNG cut short")
        val kind = data.latin(at + 4, at + 8)
        val body = at + 8
        val end = body + length.toInt()
        val sum = CRC32().apply { update(data, at + 4, length.toInt() + 4) }.value
        if (sum != data.u32be(end)) return Container.Refused("PNG with a wrong checksum")
        if (kind == "IHDR") {
            if (data.u8(body + 8) == 16) {
                return Container.Refused("PNG with 16 bits a channel, decoded differently on phones")
            }
            size = size ?: (positive(data.u32be(body)) to positive(data.u32be(body + 4)))
        }
        if (kind in COLOUR) profiles += at to end + 4
        notes.see(kind, data, body, end)
        at = end + 4
        if (kind == "IEND") break
    }
    if (notes.animated) return Container.Refused("animated")
    val (width, height) = size ?: return Container.Refused(BROKEN)
    val stream = Pieces.without(data, profiles)
    return Container.Photo(Kind.PNG, width, height, notes.orientation(), stream)
}

/** Sizes go to 2^31 - 1; more is broken. */
internal fun positive(number: Long): Int = if (number > Int.MAX_VALUE) -1 else number.toInt()

/** What chunks say beside the pixels: orientation, and whether there are several pictures. */
private class PngNotes {
    private var exif: ByteArray? = null
    private var raw: String? = null
    private var xmp: ByteArray? = null
    private var frames = 0L
    private var ownFrame = false // the picture is the first frame of the animation
    private var pixels = false

    val animated: Boolean get() = frames > 1 || (frames == 1L && !ownFrame)

    fun see(kind: String, data: ByteArray, from: Int, to: Int) {
        when (kind) {
            "IDAT" -> pixels = true
            "acTL" -> if (!pixels) frames = data.u32be(from)
            "fcTL" -> if (!pixels) ownFrame = true
            "eXIf" -> exif = EXIF_START.toByteArray(Charsets.ISO_8859_1) + data.copyOfRange(from, to)
            "tEXt", "zTXt", "iTXt" -> {
                val split = (from until to).firstOrNull { data.u8(it) == 0 } ?: return
                text(data.latin(from, split), kind, data, split + 1, to)
            }
        }
    }

    private fun text(name: String, kind: String, data: ByteArray, from: Int, to: Int) {
        if (name != XMP_NAME && name != "exif" && name != "Raw profile type exif") return
        val value = when (kind) {
            "tEXt" -> data.copyOfRange(from, to)
            "zTXt" -> inflated(data, from + 1, to) ?: ByteArray(0)
            else -> international(data, from, to) ?: return
        }
        when (name) {
            XMP_NAME -> xmp = value
            "exif" -> exif = value
            else -> raw = value.latin(0, value.size)
        }
    }

    /** iTXt: flag, method, language and translated name, each of these ended by a zero, text. */
    private fun international(data: ByteArray, from: Int, to: Int): ByteArray? {
        val language = (from + 2 until to).firstOrNull { data.u8(it) == 0 } ?: return null
        val name = (language + 1 until to).firstOrNull { data.u8(it) == 0 } ?: return null
        return when {
            data.u8(from) == 0 -> data.copyOfRange(name + 1, to)
            data.u8(from + 1) == 0 -> inflated(data, name + 1, to)
            else -> null
        }
    }

    fun orientation(): Int = orientation(exif ?: raw?.let { unhexed(it) }, xmp)
}

/** ImageMagick's way to keep EXIF: three lines of heading, then lines of hexadecimal digits. */
private fun unhexed(text: String): ByteArray {
    val digits = text.split("\n").drop(3).joinToString("").filterNot { it.isWhitespace() }
    return ByteArray(digits.length / 2) {
        digits.substring(2 * it, 2 * it + 2).toInt(16).toByte()
    }
}

/** Null for what is not deflated. Throws where it is larger than any metadata. */
private fun inflated(data: ByteArray, from: Int, to: Int): ByteArray? {
    val inflater = Inflater()
    try {
        inflater.setInput(data, from, to - from)
        val out = java.io.ByteArrayOutputStream()
        val piece = ByteArray(1 shl 14)
        while (!inflater.finished()) {
            val count = inflater.inflate(piece)
            if (count == 0 && !inflater.finished()) return null
            out.write(piece, 0, count)
            require(out.size() <= LARGEST_TEXT) { "a text of more than $LARGEST_TEXT bytes" }
        }
        return out.toByteArray()
    } catch (_: DataFormatException) {
        return null
    } finally {
        inflater.end()
    }
}
