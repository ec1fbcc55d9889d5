package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

private val GOOD = Check.Passed(emptyList(), emptyList())

class ClassifierTest {
    private val made = madeBundle()
    private val bundle = read(made)
    private val photo = made.files.getValue("golden/1.png")

    private fun answering(vararg outputs: Int) = Engine { _, output ->
        outputs.forEachIndexed { i, quanta -> output.put(i, quanta.toByte()) }
    }

    private fun classify(
        engine: Engine = summing(4),
        check: Check = GOOD,
        decoder: Decoder = PlainPng,
        file: ByteArray = photo,
        of: Bundle = bundle,
    ) = Classifier(of, engine, check).classify(file, decoder)

    private fun why(answer: Answer) = (answer.verdict as Verdict.NoVerdict).why

    @Test
    fun `a golden picture gets its golden verdict, as file and as rows`() {
        for (case in bundle.golden) {
            val file = made.files.getValue(case.image)
            val answer = classify(file = file)
            assertEquals(case.verdict, words(answer.verdict))
            val rows = (inspect(file, 1_000_000) as Container.Photo).let { PlainPng.decode(it) { rows -> rows } }
            assertEquals(answer, Classifier(bundle, summing(4), GOOD).classify(rows))
        }
    }

    @Test
    fun `shows score, threshold and the three nearest`() {
        val answer = classify(answering(100, 99, 7, 50))
        assertEquals(Verdict.Group("good", false), answer.verdict)
        assertEquals(199, answer.score)
        assertEquals(200, answer.threshold)
        assertEquals(
            listOf(Nearest("fly", "bad", 100), Nearest("death", "bad", 99), Nearest("cep", "good", 50)),
            answer.nearest,
        )
        assertFalse(answer.bounded)
    }

    @Test
    fun `harmless is never said by a demo`() {
        val demo = read(madeBundle("demo"))
        assertEquals(Verdict.NotSure("demo model"), classify(answering(0, 0, 255, 0), of = demo).verdict)
        assertEquals(Verdict.Group("bad", true), classify(answering(255, 0, 0, 0), of = demo).verdict)
    }

    @Test
    fun `without a passed self-check there is no verdict, and the model is not asked`() {
        val answer = classify({ _, _ -> throw AssertionError("asked") }, Check.Failed("why not"))
        assertEquals("self-check failed: why not", why(answer))
    }

    @Test
    fun `on other kernels it is not sure within the bound`() {
        val bounded = Check.Passed(listOf("golden/0.png"), emptyList())
        assertEquals(Verdict.NotSure(Why.KERNELS), classify(answering(198, 0, 50, 0), bounded).verdict)
        assertEquals(Verdict.Group("good", false), classify(answering(196, 0, 50, 0), bounded).verdict)
        assertTrue(classify(answering(196, 0, 50, 0), bounded).bounded)
    }

    @Test
    fun `whatever is thrown ends in no verdict`() {
        val thrown = listOf(
            IllegalStateException("broken"), OutOfMemoryError("heap"), UnsatisfiedLinkError("library"),
            StackOverflowError(), NullPointerException(),
        )
        for (error in thrown) {
            assertTrue(error.javaClass.simpleName in why(classify({ _, _ -> throw error })))
            val decoder = object : Decoder {
                override fun room() = Long.MAX_VALUE
                override fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T = throw error
            }
            assertTrue(error.javaClass.simpleName in why(classify(decoder = decoder)))
            assertTrue(selfCheck(bundle, made, summing(4), decoder) is Check.Failed)
            assertTrue(selfCheck(bundle, made, { _, _ -> throw error }, PlainPng) is Check.Failed)
        }
    }

    @Test
    fun `a photo too large for the memory at hand is not decoded`() {
        val decoder = object : Decoder {
            override fun room() = 47L * 30 * 4 - 1
            override fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T = throw AssertionError("decoded")
        }
        assertEquals("photo too large: 47 x 30 pixels", why(classify(decoder = decoder)))
        val large = Painted(1001, 1000) { _, _ -> 0 }
        assertEquals("photo too large: 1001 x 1000 pixels", why(Classifier(bundle, summing(4), GOOD).classify(large)))
        assertEquals(
            "photo too large: 1001 x 1000 pixels, at most 1000000 are read", why(classify(file = drawnPng(large))),
        )
    }

    @Test
    fun `pixels of another size than the file's are refused`() {
        val decoder = object : Decoder {
            override fun room() = Long.MAX_VALUE
            override fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T =
                use(Painted(photo.width / 2, photo.height / 2, ::noise))
        }
        assertTrue("decoded to" in why(classify(decoder = decoder)))
    }

    @Test
    fun `an output that no int8 softmax gives is refused`() {
        val half = direct(4).apply { putFloat(0, 0.5f) }
        assertEquals(128, asQuanta(half, Type.FLOAT32, 1)[0])
        half.putFloat(0, 0.3f)
        assertTrue(runCatching { asQuanta(half, Type.FLOAT32, 1) }.isFailure)
        half.putFloat(0, Float.NaN)
        assertTrue(runCatching { asQuanta(half, Type.FLOAT32, 1) }.isFailure)
        assertEquals(listOf(0, 255), asQuanta(direct(2).put(0, -128).put(1, 127), Type.INT8, 2).toList())
        val bytes = asInput(byteArrayOf(0, 127, -128, -1), Type.INT8)
        assertEquals(listOf(-128, -1, 0, 127), List(4) { bytes.get(it).toInt() })
        assertEquals(255f, asInput(byteArrayOf(-1), Type.FLOAT32).getFloat(0))
    }

    private fun direct(size: Int) = java.nio.ByteBuffer.allocateDirect(size).order(java.nio.ByteOrder.nativeOrder())
}
