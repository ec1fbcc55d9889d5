package mobileclf.skia

import mobileclf.android.BitmapDecoder
import mobileclf.android.BundlePlace
import mobileclf.android.CheckRecord
import mobileclf.android.Recognizer
import mobileclf.android.recognizer
import mobileclf.classifier.Check
import mobileclf.classifier.Engine
import mobileclf.classifier.Held
import mobileclf.classifier.PlainPng
import mobileclf.classifier.madeBundle
import mobileclf.classifier.summing
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import java.io.File
import java.nio.ByteBuffer

/** When the self-check is run, and when what it found before is enough. */
class CheckRecordTest {
    @get:Rule
    val folder = TemporaryFolder()
    private val held = madeBundle()
    private var runs = 0

    private fun load(key: String, engine: Engine = summing(4), again: Boolean = false): Recognizer {
        val counted = Engine { input, output ->
            runs++
            engine.run(input, output)
        }
        return recognizer(InMemory(held), PlainPng, { counted }, { CheckRecord(file(), key) }, again)
    }

    private fun file() = File(folder.root, "self-check")

    private fun runsOf(load: () -> Recognizer): Int {
        runs = 0
        load()
        return runs
    }

    @Test
    fun `once, and again after a change or when it is asked for`() {
        assertEquals(6, runsOf { load("one") })
        assertEquals(0, runsOf { load("one") })
        assertEquals(6, runsOf { load("two") })
        assertEquals(6, runsOf { load("two", again = true) })
    }

    @Test
    fun `a failed one is not kept`() {
        val wrong = Engine { _, output -> for (i in 0 until 4) output.put(i, 0) }
        assertTrue((load("one", wrong) as Recognizer.Ready).check is Check.Failed)
        assertEquals(6, runsOf { load("one") })
        assertTrue((load("one", wrong, again = true) as Recognizer.Ready).check is Check.Failed)
        assertEquals(6, runsOf { load("one") })
    }

    @Test
    fun `what is kept is what was found`() {
        val found = Check.Passed(listOf("golden/0.png"), listOf("golden/2.jpg", "golden/3.jpg"))
        CheckRecord(file(), "one").write(found)
        assertEquals(found, CheckRecord(file(), "one").read())
        file().writeText(file().readText().dropLast(1))
        assertEquals(null, CheckRecord(file(), "one").read())
    }

    @Test
    fun `no native library is a broken model and no crash`() {
        val found = recognizer(
            InMemory(held),
            BitmapDecoder { 0 },
            { throw UnsatisfiedLinkError("none for this processor") },
            { CheckRecord(file(), "one") },
        )
        assertTrue("none for this processor" in (found as Recognizer.Broken).why)
    }
}

private class InMemory(private val held: Held) : BundlePlace {
    override fun open(name: String) = held.open(name)

    override fun mapped(name: String): ByteBuffer = ByteBuffer.wrap(held.files.getValue(name))
}
