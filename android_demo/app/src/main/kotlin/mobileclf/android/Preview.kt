package mobileclf.android

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import mobileclf.classifier.Container

/** The photo for a screen, upright and about `side` pixels long; null where Android makes none. */
fun preview(photo: Container.Photo, side: Int): Bitmap? {
    val options = BitmapFactory.Options().apply {
        inSampleSize = sampleSize(maxOf(photo.width, photo.height), side)
    }
    val bitmap = photo.stream.stream().use { BitmapFactory.decodeStream(it, null, options) }
    return bitmap?.let { upright(it, photo.orientation) }
}

/** The largest power of two by which `length` stays at least `side`. */
internal fun sampleSize(length: Int, side: Int): Int {
    var size = 1
    while (length / (2 * size) >= side) size *= 2
    return size
}

private fun upright(bitmap: Bitmap, orientation: Int): Bitmap {
    if (orientation == 1) return bitmap
    val turn = Matrix().apply { setValues(TURNS[orientation - 1]) }
    return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, true)
}

private fun turn(xx: Int, xy: Int, yx: Int, yy: Int) =
    intArrayOf(xx, xy, 0, yx, yy, 0, 0, 0, 1).map { it.toFloat() }.toFloatArray()

/** By EXIF's number less 1: what becomes of x and of y. `createBitmap` moves the rest. */
private val TURNS = listOf(
    turn(1, 0, 0, 1),
    turn(-1, 0, 0, 1),
    turn(-1, 0, 0, -1),
    turn(1, 0, 0, -1),
    turn(0, 1, 1, 0),
    turn(0, -1, 1, 0),
    turn(0, -1, -1, 0),
    turn(0, 1, -1, 0),
)
