package mobileclf.skia

import mobileclf.android.BitmapDecoder
import mobileclf.android.LiteRtEngine
import mobileclf.classifier.Bundle
import mobileclf.classifier.Check
import mobileclf.classifier.inFolder
import mobileclf.classifier.read
import mobileclf.classifier.selfCheck
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File
import java.nio.ByteBuffer

/** The app's own engine and decoder give the golden answers of the bundle that the app ships with. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [34], manifest = Config.NONE)
class EngineTest {
    private val place = File("../app/src/main/assets/mobileclf")

    private fun model() = File(place, "model.tflite").readBytes()

    private fun direct(bytes: ByteArray): ByteBuffer = ByteBuffer.allocateDirect(bytes.size).apply {
        put(bytes)
        rewind()
    }

    @Test
    fun `the shipped bundle's golden answers to the byte`() {
        val bundle: Bundle = read(inFolder(place))
        LiteRtEngine(direct(model())).use { engine ->
            val check = selfCheck(bundle, inFolder(place), engine, BitmapDecoder { Long.MAX_VALUE })
            assertEquals(Check.Passed(emptyList(), emptyList()), check)
        }
    }

    @Test
    fun `a cut model is refused`() {
        val cut = model().copyOf(5000)
        assertThrows(Exception::class.java) { LiteRtEngine(direct(cut)) }
    }
}
