package mobileclf.skia

import mobileclf.android.BitmapDecoder
import mobileclf.classifier.Bundle
import mobileclf.classifier.Check
import mobileclf.classifier.Classifier
import mobileclf.classifier.Container
import mobileclf.classifier.Json
import mobileclf.classifier.decodedSha256
import mobileclf.classifier.inFolder
import mobileclf.classifier.inspect
import mobileclf.classifier.modelInput
import mobileclf.classifier.read
import mobileclf.classifier.selfCheck
import mobileclf.classifier.sha256
import mobileclf.classifier.summing
import mobileclf.classifier.words
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

private const val FOLDER = "mobileclf.cases"

private val decoder = BitmapDecoder { Long.MAX_VALUE }

/** From a file's bytes to the model's input, through Android's own decoder, against Python. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [34], manifest = Config.NONE)
class SkiaTest {
    private val folder = File(System.getProperty(FOLDER).orEmpty())

    private fun Json.at(key: String): Json = (this as Json.Obj).members.getValue(key)

    private fun Json.text(key: String) = (at(key) as Json.Text).value

    private fun Json.whole(key: String) = (at(key) as Json.Number).text.toInt()

    private fun Json.items(key: String) = (at(key) as Json.Arr).items

    private fun cases() = Json.parse(File(folder, "cases.json").readBytes()).items("files")
        .filter { it.at("refused") == Json.Null && it.at("file") != Json.Null }

    @Test
    fun `every file becomes the same pixels and the same inputs`() {
        assumeTrue("no -D$FOLDER", folder.isDirectory)
        val differences = ArrayList<String>()
        var compared = 0
        for (case in cases()) {
            val name = case.text("file")
            try {
                val photo = inspect(File(folder, name).readBytes(), 128_000_000) as Container.Photo
                decoder.decode(photo) { rows ->
                    if (decodedSha256(rows, photo.orientation) != case.text("decoded_sha256")) {
                        differences += "$name: decoded"
                    }
                    for (input in case.items("inputs")) {
                        val (width, height) = input.whole("width") to input.whole("height")
                        val channels = input.whole("channels")
                        val pixels = modelInput(rows, photo.orientation, width, height, channels)
                        if (sha256(pixels) != input.text("sha256")) {
                            differences += "$name: input $width x $height x $channels"
                        }
                        compared++
                    }
                }
            } catch (error: Exception) {
                differences += "$name: $error"
            }
        }
        File(folder, "compared.skia").writeText("$compared")
        assertTrue(differences.joinToString("\n", "${differences.size} of $compared:\n"), differences.isEmpty())
    }

    @Test
    fun `a bundle passes its self-check and its pictures get their verdicts`() {
        assumeTrue("no -D$FOLDER", folder.isDirectory)
        val place = File(folder, "bundle")
        val bundle: Bundle = read(inFolder(place))
        val check = selfCheck(bundle, inFolder(place), summing(bundle.classes.labels.size), decoder)
        assertEquals(Check.Passed(emptyList(), emptyList()), check)
        val classifier = Classifier(bundle, summing(bundle.classes.labels.size), check)
        for (case in bundle.golden) {
            val answer = classifier.classify(File(place, case.image).readBytes(), decoder)
            assertEquals(case.image, case.verdict, words(answer.verdict))
        }
    }
}
