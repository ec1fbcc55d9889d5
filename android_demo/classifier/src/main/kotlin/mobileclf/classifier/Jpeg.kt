package mobileclf.classifier

private const val END = 0xd9
private const val SCAN = 0xda
private const val APP1 = 0xe1
private const val APP2 = 0xe2
private val WITHOUT_LENGTH = setOf(0x01, 0xd8)
private val FRAMES = setOf(0xc0, 0xc1, 0xc2) // baseline, extended and progressive, Huffman coded
private val RARE = mapOf(
    0xc3 to "lossless", 0xc7 to "lossless", 0xcb to "lossless", 0xcf to "lossless",
    0xc5 to "hierarchical", 0xc6 to "hierarchical",
    0xc9 to "arithmetic", 0xca to "arithmetic", 0xcd to "arithmetic", 0xce to "arithmetic",
)
private const val XMP_START = "http://ns.adobe.com/xap/1.0/\u0000"
private const val ICC_START = "ICC_PROFILE\u0000"

/**
 * Walks the markers to the end of the first picture, which an MPO (several pictures in one file, as
 * phones write them) has more of behind it.
 */
internal fun jpeg(data: ByteArray): Container {
    var exif: ByteArray? = null
    var xmp: ByteArray? = null
    var size: Pair<Int, Int>? = null
    val profiles = ArrayList<Pair<Int, Int>>()
    var scanned = false
    var at = 2
    while (true) {
        at = marker(data, at) ?: return Container.Refused("JPEG cut short")
        val code = data.u8(at - 1)
        if (code == END) break
        if (code in WITHOUT_LENGTH) continue
        RARE[code]?.let {
            return Container.Refused("JPEG of a rare kind ($it), which not all phones decode")
        }
        if (at + 2 > data.size) return Container.Refused("JPEG cut short")
        val end = at + data.u16be(at)
        val body = at + 2
        when {
            code in FRAMES -> {
                val bits = if (body < data.size) data.u8(body) else 8
                if (bits != 8) {
                    return Container.Refused("JPEG with $bits bits a channel, which phones do not decode")
                }
                size = size ?: (data.u16be(body + 3) to data.u16be(body + 1))
            }
            code == SCAN -> scanned = true
            scanned || end > data.size -> Unit // metadata stands before the first scan
            // Of EXIF in several segments the later ones go on where the one before ended.
            code == APP1 && data.says(EXIF_START, body) ->
                exif = exif?.plus(data.copyOfRange(body + EXIF_START.length, end))
                    ?: data.copyOfRange(body, end)
            code == APP1 && data.says(XMP_START, body) ->
                xmp = data.copyOfRange(body + XMP_START.length, end)
            code == APP2 && data.says(ICC_START, body) -> profiles += (at - 2) to end
        }
        at = end
    }
    if (data.u8(2) != 0xff) return Container.Refused("not a picture that is read here")
    val (width, height) = size ?: return Container.Refused(BROKEN)
    val stream = Pieces.without(data, profiles)
    return Container.Photo(Kind.JPEG, width, height, orientation(exif, xmp), stream)
}

/** Behind the next marker from `from`: FF and a code that is no data byte, fill or restart. */
private fun marker(data: ByteArray, from: Int): Int? {
    var at = from
    while (at + 1 < data.size) {
        val code = data.u8(at + 1)
        if (data.u8(at) == 0xff && code != 0 && code != 0xff && code !in 0xd0..0xd7) return at + 2
        at++
    }
    return null
}
