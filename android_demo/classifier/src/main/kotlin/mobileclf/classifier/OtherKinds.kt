package mobileclf.classifier

private const val VP8X_PROFILE = 0x20
private const val VP8X_ANIMATION = 0x02

/** WebP: RIFF chunks; only the extended form has a profile and metadata. */
internal fun webp(data: ByteArray): Container {
    if (data.size < 8 || data.size < 8 + data.u32le(4)) return Container.Refused("WebP cut short")
    if (!data.says("WEBP", 8)) return Container.Refused("not a picture that is read here")
    return when (data.latin(12, 16)) {
        "VP8 " -> {
            require(data.says("\u009d\u0001\u002a", 23)) { "no start of a key frame" }
            plainWebp(data, data.u16le(26) and 0x3fff, data.u16le(28) and 0x3fff)
        }
        "VP8L" -> {
            require(data.u8(20) == 0x2f) { "no start of a lossless picture" }
            val bits = data.u32le(21)
            plainWebp(data, (bits and 0x3fff).toInt() + 1, ((bits shr 14) and 0x3fff).toInt() + 1)
        }
        "VP8X" -> extendedWebp(data)
        else -> Container.Refused("not a picture that is read here")
    }
}

private fun plainWebp(data: ByteArray, width: Int, height: Int): Container =
    Container.Photo(Kind.WEBP, width, height, 1, Pieces.without(data, emptyList()))

private fun extendedWebp(data: ByteArray): Container {
    val end = 8 + data.u32le(4).toInt()
    val flags = data.u8(20)
    val chunks = LinkedHashMap<String, Pair<Int, Int>>() // the first of a kind counts
    val profiles = ArrayList<Pair<Int, Int>>()
    var frames = 0
    var at = 12
    while (at + 8 <= end) {
        val kind = data.latin(at, at + 4)
        val length = data.u32le(at + 4)
        val next = at + 8 + length + (length and 1)
        if (at + 8 + length > end) return Container.Refused(BROKEN)
        chunks.getOrPut(kind) { (at + 8) to (at + 8 + length.toInt()) }
        if (kind == "ICCP") profiles += at to minOf(next, end.toLong()).toInt()
        if (kind == "ANMF") frames++
        at = minOf(next, end.toLong()).toInt()
    }
    if (flags and VP8X_ANIMATION != 0 && frames > 1) return Container.Refused("animated")
    fun chunk(kind: String) = chunks[kind]?.let { (from, to) -> data.copyOfRange(from, to) }
    val width = (data.u32le(24) and 0xffffff).toInt() + 1
    val height = (data.u32le(27 - 1) shr 8).toInt() + 1
    val stream = if (profiles.isEmpty()) {
        Pieces.without(data, emptyList())
    } else {
        withoutProfile(data, profiles, flags)
    }
    val turned = orientation(chunk("EXIF"), chunk("XMP "))
    return Container.Photo(Kind.WEBP, width, height, turned, stream)
}

/** The header says how long the file is and that there is a profile: both are written anew. */
private fun withoutProfile(data: ByteArray, profiles: List<Pair<Int, Int>>, flags: Int): Pieces {
    val length = data.u32le(4) - profiles.sumOf { (from, to) -> to - from }
    val head = data.copyOfRange(0, 21)
    for (i in 0 until 4) head[4 + i] = (length shr (8 * i)).toByte()
    head[20] = (flags and VP8X_PROFILE.inv()).toByte()
    val rest = Pieces.without(data, listOf(0 to head.size) + profiles)
    return rest.behind(head)
}

/** GIF: one opaque picture that fills its screen. */
internal fun gif(data: ByteArray): Container {
    if (data.indexOfLast { it != 0.toByte() }.let { it < 0 || data.u8(it) != 0x3b }) {
        return Container.Refused("GIF cut short")
    }
    val (width, height) = data.u16le(6) to data.u16le(8)
    var at = 13 + table(data.u8(10))
    var pictures = 0
    var transparent = false
    var margin = false
    while (true) {
        when (data.u8(at)) {
            0x3b -> break
            0x21 -> {
                // The transparency that counts is the one before the first picture.
                if (data.u8(at + 1) == 0xf9 && pictures == 0) transparent = data.u8(at + 3) and 1 != 0
                at = blocks(data, at + 2)
            }
            0x2c -> {
                val whole = data.u16le(at + 1) == 0 && data.u16le(at + 3) == 0 &&
                    data.u16le(at + 5) == width && data.u16le(at + 7) == height
                if (pictures++ == 0) margin = !whole
                at = blocks(data, at + 11 + table(data.u8(at + 9)))
            }
            else -> at++ // Pillow steps over what it does not know
        }
    }
    return when {
        pictures == 0 -> Container.Refused(BROKEN)
        pictures > 1 -> Container.Refused("animated")
        transparent -> Container.Refused("GIF with transparency, decoded differently on phones")
        margin -> Container.Refused("GIF with an empty margin, decoded differently on phones")
        else -> Container.Photo(Kind.GIF, width, height, 1, Pieces.without(data, emptyList()))
    }
}

private fun table(flags: Int): Int = if (flags and 0x80 != 0) 3 shl ((flags and 7) + 1) else 0

/** Behind the blocks that begin at `from`, each with its length before it, up to one of 0. */
private fun blocks(data: ByteArray, from: Int): Int {
    var at = from
    while (data.u8(at) != 0) at += data.u8(at) + 1
    return at + 1
}

/** BMP: complete when its rows lie within the file. */
internal fun bmp(data: ByteArray): Container {
    val start = data.u32le(10)
    val old = data.u32le(14) == 12L // the first header has sizes of two bytes
    val width = if (old) data.u16le(18) else positive(data.u32le(18))
    val high = if (old) data.u16le(20) else data.u32le(22).toInt() // negative: top row first
    val bits = data.u16le(if (old) 24 else 28)
    val packed = !old && data.u32le(30) in PACKED
    val rows = if (packed) data.u32le(34) else (width.toLong() * bits + 31) / 32 * 4 * Math.abs(high.toLong())
    if (width < 1 || start + rows > data.size) return Container.Refused(BROKEN)
    return Container.Photo(Kind.BMP, width, Math.abs(high), 1, Pieces.without(data, emptyList()))
}

private val PACKED = setOf(1L, 2L) // by run lengths: only the header says how long

private val HEIF_BRANDS = setOf("heic", "heix", "hevc", "heim", "heis", "mif1", "msf1")
private val AVIF_BRANDS = setOf("avif", "avis")

/** The brands, first the major one, of a file in ISO's base media format; else none. */
private fun brands(data: ByteArray): List<String> {
    if (!data.says("ftyp", 4)) return emptyList()
    val end = minOf(data.u32be(0), 256L, data.size.toLong()).toInt()
    return (8..end - 4 step 4).filter { it != 12 }.map { data.latin(it, it + 4) } // 12: a version
}

internal fun isAvif(data: ByteArray): Boolean = brands(data).any { it in AVIF_BRANDS }

internal fun isHeif(data: ByteArray): Boolean = brands(data).firstOrNull() in HEIF_BRANDS

/**
 * HEIC, which `mobileclf` and phones read by other decoders: tolerated, not promised. The decoder
 * turns it itself. Complete when its top boxes fill the file; its size is its largest picture's.
 */
internal fun heif(data: ByteArray): Container {
    var at = 0L
    var meta: Pair<Int, Int>? = null
    while (at < data.size) {
        val length = when (val short = data.u32be(at.toInt())) {
            0L -> data.size - at
            1L -> (data.u32be(at.toInt() + 8) shl 32) or data.u32be(at.toInt() + 12)
            else -> short
        }
        if (length < 8 || length > data.size - at) return Container.Refused(BROKEN)
        if (data.says("meta", at.toInt() + 4)) meta = at.toInt() to (at + length).toInt()
        at += length
    }
    val (from, to) = meta ?: return Container.Refused(BROKEN)
    val (width, height) = (from until to - 16).filter { data.says("ispe", it) }
        .map { positive(data.u32be(it + 8)) to positive(data.u32be(it + 12)) }
        .maxByOrNull { (w, h) -> w.toLong() * h } ?: return Container.Refused(BROKEN)
    return Container.Photo(Kind.HEIC, width, height, 1, Pieces.without(data, emptyList()))
}
