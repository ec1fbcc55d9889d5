package mobileclf.android

import android.app.ActivityManager
import android.content.Context
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.os.Build
import mobileclf.classifier.Container
import mobileclf.classifier.Decoder
import mobileclf.classifier.Rows

/**
 * `BitmapFactory` as it decodes to the bytes that Pillow decodes to: nothing scaled or blended.
 *
 * memory: bytes at hand, asked before each photo.
 */
class BitmapDecoder(private val memory: () -> Long) : Decoder {
    override fun room() = memory()

    override fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T {
        val options = BitmapFactory.Options().apply {
            inPremultiplied = false
            inScaled = false
            inPreferredConfig = Bitmap.Config.ARGB_8888
        }
        val bitmap = photo.stream.stream().use { BitmapFactory.decodeStream(it, null, options) }
        checkNotNull(bitmap) { "Android decodes nothing" }
        try {
            return use(Pixels(bitmap))
        } finally {
            bitmap.recycle()
        }
    }
}

private class Pixels(private val bitmap: Bitmap) : Rows {
    override val width = bitmap.width
    override val height = bitmap.height

    override fun read(y: Int, into: IntArray) = bitmap.getPixels(into, 0, width, 0, y, width, 1)
}

/**
 * Bytes that a decoded picture may take. From API 26 pixels lie outside the Java heap, and over what
 * the system has to spare it ends the process, with no error to catch.
 */
fun memoryAtHand(context: Context): Long {
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.O) {
        return Runtime.getRuntime().run { maxMemory() - (totalMemory() - freeMemory()) }
    }
    val manager = context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager
    val found = ActivityManager.MemoryInfo().also { manager.getMemoryInfo(it) }
    return found.availMem - found.threshold
}
