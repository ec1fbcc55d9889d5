package mobileclf.classifier

/**
 * A decoded picture, given row by row, so that no second copy of it has to be in memory.
 *
 * `Bitmap.getPixels` of one row is all that `read` is on Android.
 */
interface Rows {
    val width: Int
    val height: Int

    /** Row `y`, left to right, as 0xAARRGGBB; alpha is dropped, never multiplied in. */
    fun read(y: Int, into: IntArray)
}

/**
 * How a stored picture is turned upright, by EXIF's number 1 to 8.
 *
 * transposed: the rows of the stored picture are the columns of the upright one. backward: those
 * lines come in falling order. mirrored: each of them runs backward.
 */
internal enum class Turn(val transposed: Boolean, val backward: Boolean, val mirrored: Boolean) {
    NONE(false, false, false),
    LEFT_RIGHT(false, false, true),
    HALF(false, true, true),
    TOP_BOTTOM(false, true, false),
    TRANSPOSE(true, false, false),
    CLOCKWISE(true, true, false),
    TRANSVERSE(true, true, true),
    COUNTERCLOCKWISE(true, false, true),
    ;

    companion object {
        fun of(orientation: Int): Turn = values()[orientation - 1]
    }
}

/** Stored rows in the order and direction that the upright picture has them as lines. */
internal class Lines(private val rows: Rows, private val turn: Turn) {
    val count: Int = rows.height
    val length: Int = rows.width

    fun read(line: Int, into: IntArray) {
        rows.read(if (turn.backward) count - 1 - line else line, into)
        if (turn.mirrored) into.reverse(0, length)
    }
}

/** The sha256 of the upright picture as RGB bytes, row by row: what golden cases hold of a decoder. */
fun decodedSha256(rows: Rows, orientation: Int): String {
    val digest = java.security.MessageDigest.getInstance("SHA-256")
    val turn = Turn.of(orientation)
    val lines = Lines(rows, turn)
    val line = IntArray(lines.length)
    val bytes = ByteArray(3 * if (turn.transposed) lines.count else lines.length)
    if (!turn.transposed) {
        for (y in 0 until lines.count) {
            lines.read(y, line)
            rgb(line, 0, lines.length, bytes)
            digest.update(bytes)
        }
        return hex(digest.digest())
    }
    // Upright rows are stored columns: gathered in bands, since a picture does not fit as a whole.
    val band = (BAND_PIXELS / lines.count).coerceIn(1, lines.length)
    val gathered = IntArray(band * lines.count)
    for (top in 0 until lines.length step band) {
        val high = minOf(band, lines.length - top)
        for (x in 0 until lines.count) {
            lines.read(x, line)
            for (y in 0 until high) gathered[y * lines.count + x] = line[top + y]
        }
        for (y in 0 until high) {
            rgb(gathered, y * lines.count, lines.count, bytes)
            digest.update(bytes)
        }
    }
    return hex(digest.digest())
}

private const val BAND_PIXELS = 1 shl 20

private fun rgb(colours: IntArray, from: Int, count: Int, into: ByteArray) {
    for (x in 0 until count) {
        val colour = colours[from + x]
        into[3 * x] = (colour shr 16).toByte()
        into[3 * x + 1] = (colour shr 8).toByte()
        into[3 * x + 2] = colour.toByte()
    }
}
