package mobileclf.skia

import android.graphics.Bitmap
import android.graphics.Color
import mobileclf.android.preview
import mobileclf.classifier.Container
import mobileclf.classifier.inspect
import mobileclf.classifier.modelInput
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.ByteArrayOutputStream

/** The photo on the screen is turned as the one that the model sees. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [34], manifest = Config.NONE)
class PreviewTest {
    private val colours = listOf(Color.RED, Color.GREEN, Color.BLUE, Color.WHITE, Color.BLACK, Color.YELLOW)

    private fun png(): ByteArray {
        val bitmap = Bitmap.createBitmap(colours.toIntArray(), 3, 2, Bitmap.Config.ARGB_8888)
        return ByteArrayOutputStream().also { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }.toByteArray()
    }

    @Test
    fun `every orientation`() {
        val stored = inspect(png(), 100) as Container.Photo
        for (number in 1..8) {
            val photo = Container.Photo(stored.kind, stored.width, stored.height, number, stored.stream)
            val bitmap = checkNotNull(preview(photo, 1000))
            val seen = IntArray(6)
            bitmap.getPixels(seen, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
            val rows = object : mobileclf.classifier.Rows {
                override val width = 3
                override val height = 2
                override fun read(y: Int, into: IntArray) {
                    for (x in 0 until 3) into[x] = colours[3 * y + x]
                }
            }
            val wanted = modelInput(rows, number, bitmap.width, bitmap.height, 3)
            val found = seen.flatMap { listOf(Color.red(it), Color.green(it), Color.blue(it)) }
            assertEquals("$number", wanted.map { it.toInt() and 255 }, found)
        }
    }
}
