package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

private const val MOST = 1_000_000L

/** Files made by hand; those that Pillow makes come in GoldenTest. */
class ContainerTest {
    private val png = drawnPng(Painted(5, 4, ::noise))

    private fun photo(data: ByteArray) = inspect(data, MOST) as Container.Photo

    private fun why(data: ByteArray) = (inspect(data, MOST) as Container.Refused).why

    private fun tiff(orientation: Int) = "MM\u0000*".bytes() + be32(8) +
        byteArrayOf(0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation.toByte(), 0, 0)

    private fun String.bytes() = toByteArray(Charsets.ISO_8859_1)

    @Test
    fun `size and kind from the header`() {
        assertEquals(listOf(5, 4, 1), photo(png).run { listOf(width, height, orientation) })
        assertEquals(Kind.PNG, photo(png).kind)
    }

    @Test
    fun `a cut at any byte is noticed`() {
        for (length in 1 until png.size) assertFalse(inspect(png.copyOf(length), MOST) is Container.Photo, "$length")
    }

    @Test
    fun `a flipped bit anywhere behind the signature is noticed`() {
        for (at in 8 until png.size) {
            val other = png.clone().also { it[at] = (it[at].toInt() xor 16).toByte() }
            assertFalse(inspect(other, MOST) is Container.Photo, "$at")
        }
    }

    @Test
    fun `orientation from EXIF, 1 for what is none`() {
        for (number in 0..9) {
            val found = photo(drawnPng(Painted(5, 4, ::noise), chunk("eXIf", tiff(number)))).orientation
            assertEquals(if (number in 1..8) number else 1, found)
        }
    }

    @Test
    fun `EXIF goes before XMP, and EXIF without an orientation leaves it to XMP`() {
        val xmp = chunk("iTXt", "XML:com.adobe.xmp\u0000\u0000\u0000\u0000\u0000<x tiff:Orientation=\"6\"/>".bytes())
        val empty = chunk("eXIf", "MM\u0000*".bytes() + be32(8) + byteArrayOf(0, 0))
        val rows = Painted(5, 4, ::noise)
        assertEquals(6, photo(drawnPng(rows, xmp)).orientation)
        assertEquals(6, photo(drawnPng(rows, empty, xmp)).orientation)
        assertEquals(3, photo(drawnPng(rows, chunk("eXIf", tiff(3)), xmp)).orientation)
        assertEquals(1, photo(drawnPng(rows, chunk("eXIf", tiff(9)), xmp)).orientation)
    }

    @Test
    fun `EXIF that is none is broken`() {
        assertEquals("broken or cut short", why(drawnPng(Painted(5, 4, ::noise), chunk("eXIf", "XX".bytes()))))
    }

    @Test
    fun `colour is taken out, and nothing else`() {
        val chunks = listOf("iCCP", "gAMA", "cHRM", "sRGB", "cICP").map { chunk(it, byteArrayOf(1, 2, 3)) }
        val coloured = drawnPng(Painted(5, 4, ::noise), *chunks.toTypedArray())
        val stream = photo(coloured).stream
        assertEquals(sha256(png), sha256(stream.toByteArray()))
        assertEquals(sha256(png), sha256(stream.stream().readBytes()))
        assertEquals(png.size, stream.size)
    }

    @Test
    fun `too many pixels are told before decoding`() {
        val found = inspect(png, 19) as Container.Refused
        assertEquals("photo too large: 5 x 4 pixels, at most 19 are read", found.why)
        assertTrue(inspect(png, 20) is Container.Photo)
    }

    @Test
    fun `no bytes make it throw`() {
        val starts = listOf(
            "\u00ff\u00d8\u00ff", PNG_SIGNATURE, "RIFF\u0010\u0000\u0000\u0000WEBPVP8X",
            "RIFF\u0000\u0000\u0000\u0000WEBPVP8 ",
            "GIF89a", "BM", "\u0000\u0000\u0000\u0018ftypheic", "\u0000\u0000\u0000\u0018ftypmif1", "<", "",
        )
        for (start in starts) {
            for (seed in 0 until 200) {
                val noisy = start.bytes() + ByteArray(seed) { noise(it, seed).toByte() }
                inspect(noisy, MOST)
            }
        }
        assertEquals("an empty file", why(ByteArray(0)))
        assertEquals("nothing but zero bytes", why(ByteArray(100)))
    }
}
