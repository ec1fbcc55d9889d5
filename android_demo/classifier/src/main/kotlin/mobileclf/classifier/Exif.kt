package mobileclf.classifier

/**
 * The orientation that metadata names, 1 to 8; 1 for none and for what is no such number.
 *
 * exif: with or without its "Exif\0\0". Where it holds an orientation, that counts, a wrong one too;
 * else XMP's. Throws for EXIF that is no TIFF, which `mobileclf` refuses as broken.
 */
internal fun orientation(exif: ByteArray?, xmp: ByteArray?): Int {
    val found = exif?.let { inExif(it) } ?: xmp?.let { inXmp(it) } ?: 1
    return if (found in 1..8) found else 1
}

private const val ORIENTATION = 0x0112
private const val NO_NUMBER = 0
private val IN_XMP = Regex("tiff:Orientation(?:=\"|>)([0-9])")
internal const val EXIF_START = "Exif\u0000\u0000"

private fun inXmp(xmp: ByteArray): Int? =
    IN_XMP.find(xmp.latin(0, xmp.size))?.groupValues?.get(1)?.toInt()

private fun inExif(exif: ByteArray): Int? {
    var start = 0
    repeat(2) { if (exif.says(EXIF_START, start)) start += EXIF_START.length }
    if (start == exif.size) return null
    val little = exif.says("II*\u0000", start)
    require(little || exif.says("MM\u0000*", start)) { "EXIF that is no TIFF" }
    val tiff = Tiff(exif.copyOfRange(start, exif.size), little)
    return tiff.orientation(tiff.u32(4))
}

private class Tiff(private val data: ByteArray, private val little: Boolean) {
    fun u16(at: Int): Int = if (little) data.u16le(at) else data.u16be(at)

    fun u32(at: Int): Long = if (little) data.u32le(at) else data.u32be(at)

    /** Of the directory at `start`, as far as it goes: one that is cut short is no error. */
    fun orientation(start: Long): Int? {
        if (start + 2 > data.size) return null
        val entries = start.toInt() + 2
        for (i in 0 until u16(start.toInt())) {
            val at = entries + 12 * i
            if (at + 12 > data.size) return null
            if (u16(at) == ORIENTATION) value(at)?.let { return it }
        }
        return null
    }

    /** Its first number; null where there is none, so that a later entry may have it. */
    private fun value(entry: Int): Int? {
        val type = u16(entry + 2)
        val bytes = SIZES.getOrElse(type) { 0 }
        val size = u32(entry + 4) * bytes
        if (size == 0L) return null
        val at = if (size > 4) u32(entry + 8) else entry + 8L
        if (at + size > data.size) return null
        return when (type) {
            3, 8 -> u16(at.toInt())
            4, 9, 13 -> u32(at.toInt()).coerceAtMost(Int.MAX_VALUE.toLong()).toInt()
            6 -> data.u8(at.toInt())
            else -> NO_NUMBER
        }
    }
}

/** Bytes of one value by TIFF's types 0 to 13. */
private val SIZES = intArrayOf(0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
