package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource
import java.util.Locale

private const val RECORD = "bundle.json"

class BundleTest {
    private val made = madeBundle()

    @Test
    fun `reads what export writes`() {
        val bundle = read(made)
        assertEquals("made", bundle.name)
        assertEquals(InputSpec(8, 8, 3, Type.UINT8, 1_000_000), bundle.input)
        assertEquals(Decision("bad", 200, null, 3, demo = false), bundle.decision)
        assertEquals(listOf("fly", "death", "penny", "cep"), bundle.classes.labels)
        assertEquals(6, bundle.golden.size)
        assertTrue(read(madeBundle("demo")).decision.demo)
    }

    @ParameterizedTest
    @ValueSource(strings = ["tr", "ar", "en"])
    fun `in every language`(language: String) {
        val before = Locale.getDefault()
        try {
            Locale.setDefault(Locale.forLanguageTag(language))
            val bundle = read(made)
            assertEquals(Check.Passed(emptyList(), emptyList()), selfCheck(bundle, made, summing(4), PlainPng))
        } finally {
            Locale.setDefault(before)
        }
    }

    @ParameterizedTest
    @ValueSource(strings = ["model.tflite", "labels.txt", "golden/0.png"])
    fun `a flipped byte is noticed`(file: String) {
        val data = made.files.getValue(file).clone()
        data[data.size / 2] = (data[data.size / 2].toInt() xor 1).toByte()
        val error = readBundle(made.with(file, data)) as BundleError.WrongHash
        assertEquals(file, error.file)
    }

    @ParameterizedTest
    @ValueSource(strings = ["model.tflite", "labels.txt", "golden/3.png", RECORD])
    fun `a file that is missing is named`(file: String) {
        assertEquals(file, (readBundle(made.without(file)) as BundleError.Missing).file)
    }

    @Test
    fun `a pointer of Git LFS is named as such`() {
        val pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".toByteArray()
        assertEquals("model.tflite", (readBundle(made.with("model.tflite", pointer)) as BundleError.LfsPointer).file)
    }

    @ParameterizedTest
    @ValueSource(strings = ["2", "\"1\"", "1.0", "null"])
    fun `another schema is refused`(schema: String) {
        assertTrue(readBundle(made.replaced(RECORD, "\"schema\":1", "\"schema\":$schema")) is BundleError.UnknownSchema)
    }

    @Test
    fun `a threshold off by one step is not the model's`() {
        val moved = made.replaced(RECORD, "\"threshold_q\":200", "\"threshold_q\":201")
            .replaced(RECORD, "\"threshold\":0.78125", "\"threshold\":0.78515625")
        assertTrue(readBundle(moved) is BundleError.Differs)
    }

    @Test
    fun `a demo is not made real, and labels are not swapped, by hand`() {
        val real = madeBundle("demo").replaced(RECORD, "\"purpose\":\"demo\"", "\"purpose\":\"real\"")
        assertTrue(readBundle(real) is BundleError.Differs)
        val swapped = made.replaced(RECORD, "\"label\":\"penny\",\"group\"", "\"label\":\"pen\",\"group\"")
        assertTrue(readBundle(swapped) is BundleError.Differs)
        val lines = "death\nfly\npenny\ncep\n".toByteArray()
        val hashed = made.with("labels.txt", lines)
            .replaced(RECORD, sha256(made.files.getValue("labels.txt")), sha256(lines))
        assertTrue(readBundle(hashed) is BundleError.Differs)
    }

    @ParameterizedTest
    @CsvSource(
        delimiter = '|',
        quoteCharacter = '\u0000',
        value = [
            "\"width\":8|\"width\":0|input.width",
            "\"width\":8|\"width\":8.0|input.width",
            "\"width\":8|\"width\":\"8\"|input.width",
            "\"channels\":3|\"channels\":2|input.channels",
            "\"fit\":\"warp\"|\"fit\":\"crop\"|input.fit",
            "\"exif\":true|\"exif\":false|input.exif",
            "\"colour\":\"as stored\"|\"colour\":\"sRGB\"|input.colour",
            "horizontal then vertical|vertical then horizontal|input.resize",
            "\"dtype\":\"uint8\",\"scale\":1.0|\"dtype\":\"int16\",\"scale\":1.0|input.dtype",
            "\"scale\":0.00390625|\"scale\":0.0078125|output.scale",
            "\"kernels\":\"xnnpack\"|\"kernels\":\"builtin\"|output.kernels",
            "\"threshold_q\":200|\"threshold_q\":199|decision.threshold",
            "\"abstain\":null|\"abstain\":{\"by\":\"energy\",\"cut\":0.5,\"cut_q\":128}|decision.abstain.by",
            "\"abstain\":null|\"abstain\":{\"by\":\"margin\",\"cut\":0.5,\"cut_q\":129}|decision.abstain.cut",
            "\"abstain\":null|\"abstain\":{\"by\":\"margin\",\"cut\":0.5,\"cut_q\":128,\"x\":1}|decision.abstain",
            "\"kernel_bound\":3|\"kernel_bound\":-1|decision.kernel_bound",
            "\"purpose\":\"real\"|\"purpose\":\"Real\"|purpose",
            "\"harmful\":false|\"harmful\":true|groups",
            "\"file\":\"model.tflite\"|\"file\":\"../model.tflite\"|model.../model.tflite",
            "\"limits\":|\"limit\":|limits",
        ],
    )
    fun `another value is refused by its key`(old: String, new: String, key: String) {
        val error = readBundle(made.replaced(RECORD, old, new))
        assertEquals(key, (error as? BundleError.BadValue)?.key, (error as? BundleError)?.why)
    }

    @Test
    fun `what is no JSON, no object, or throws, is refused`() {
        assertTrue(readBundle(made.with(RECORD, "{".toByteArray())) is BundleError.NotJson)
        assertTrue(readBundle(made.with(RECORD, "[]".toByteArray())) is BundleError.NotJson)
        assertTrue(readBundle { throw IllegalStateException("storage") } is BundleError.Unreadable)
        assertTrue(readBundle { throw java.io.IOException("storage") } is BundleError.Missing)
    }

    @Test
    fun `a long model is hashed whole, and its end is found`() {
        for (size in listOf(0, 1, (1 shl 20) - 1, 1 shl 20, (1 shl 20) + 1, 5 shl 19, 7 shl 20)) {
            val data = ByteArray(size) { noise(it, 1).toByte() }
            val tail = Tail.of(data.inputStream())
            assertEquals(sha256(data), tail.sha256)
            assertEquals(sha256(data.copyOfRange(tail.start.toInt(), size)), sha256(tail.bytes))
            assertTrue(tail.bytes.size >= minOf(size, 1 shl 20))
        }
    }
}
