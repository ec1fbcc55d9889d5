package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource

/** EXIF's turns, place by place, as its standard draws them: slow, and of another make than Turn. */
private fun upright(rows: Rows, orientation: Int): Rows {
    val (w, h) = rows.width to rows.height
    fun at(x: Int, y: Int): Int = IntArray(w).also { rows.read(y, it) }[x]
    return when (orientation) {
        1 -> rows
        2 -> Painted(w, h) { x, y -> at(w - 1 - x, y) }
        3 -> Painted(w, h) { x, y -> at(w - 1 - x, h - 1 - y) }
        4 -> Painted(w, h) { x, y -> at(x, h - 1 - y) }
        5 -> Painted(h, w) { x, y -> at(y, x) }
        6 -> Painted(h, w) { x, y -> at(y, h - 1 - x) }
        7 -> Painted(h, w) { x, y -> at(w - 1 - y, h - 1 - x) }
        else -> Painted(h, w) { x, y -> at(w - 1 - y, x) }
    }
}

class PreprocessTest {
    @ParameterizedTest
    @CsvSource("23,17,8,9", "5,40,16,3", "3,2,12,12", "1,1,4,4", "1,70,6,5", "70,1,5,6")
    fun `turns while it resizes`(width: Int, height: Int, toWidth: Int, toHeight: Int) {
        val rows = Painted(width, height, ::noise)
        for (orientation in 1..8) {
            for (channels in listOf(3, 1)) {
                val wanted = modelInput(upright(rows, orientation), 1, toWidth, toHeight, channels)
                val found = modelInput(rows, orientation, toWidth, toHeight, channels)
                assertArrayEquals(wanted, found, "orientation $orientation, $channels channels")
            }
            assertEquals(decodedSha256(upright(rows, orientation), 1), decodedSha256(rows, orientation))
        }
    }

    @Test
    fun `the exact size stays as it is`() {
        val input = modelInput(Painted(7, 5, ::noise), 1, 7, 5, 3)
        for (y in 0 until 5) {
            for (x in 0 until 7) {
                assertEquals((noise(x, y) shr 8) and 255, input.u8(3 * (7 * y + x) + 1))
            }
        }
    }

    @Test
    fun `one colour stays that colour at every size`() {
        for (size in listOf(1, 2, 3, 10, 100, 999)) {
            val input = modelInput(Painted(size, size) { _, _ -> 0x7fff80 }, 1, 13, 11, 3)
            assertTrue(input.indices.all { input.u8(it) == listOf(0x7f, 0xff, 0x80)[it % 3] }, "$size")
        }
    }

    @Test
    fun `rounds half up, as no float is involved`() {
        // Two pixels become one: (0 + 1) / 2 is 0.5 and goes to 1, (1 + 2) / 2 to 2.
        val rows = Painted(2, 1) { x, _ -> if (x == 0) 0x000100 else 0x010200 }
        assertArrayEquals(byteArrayOf(1, 2, 0), modelInput(rows, 1, 1, 1, 3))
    }

    @Test
    fun `grey before it is resized, and grey stays as it is`() {
        for (grey in 0..255) {
            val rows = Painted(1, 1) { _, _ -> grey * 0x010101 }
            assertEquals(grey, modelInput(rows, 1, 1, 1, 1).u8(0))
        }
        val red = modelInput(Painted(1, 1) { _, _ -> 0xff0000 }, 1, 1, 1, 1).u8(0)
        assertEquals(76, red)
    }

    @Test
    fun `red is red`() {
        assertArrayEquals(byteArrayOf(1, 2, 3), modelInput(Painted(1, 1) { _, _ -> 0x010203 }, 1, 1, 1, 3))
    }

    @Test
    fun `a photo of 108 megapixels passes through a small heap`() {
        // In memory it would be 432 MB; the tests have a heap of 512, and this needs about one row.
        val row = IntArray(12000) { noise(it, 0) }
        val rows = object : Rows {
            override val width = 12000
            override val height = 9000
            override fun read(y: Int, into: IntArray) = System.arraycopy(row, 0, into, 0, width).also { into[0] = y }
        }
        System.gc()
        val before = used()
        for (orientation in listOf(1, 6)) modelInput(rows, orientation, 224, 224, 3)
        assertTrue(used() - before < 300_000_000)
    }

    private fun used() = Runtime.getRuntime().run { totalMemory() - freeMemory() }
}
