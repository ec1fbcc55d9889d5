package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.condition.EnabledIfSystemProperty
import java.io.File

private const val FOLDER = "mobileclf.cases"
private const val MOST = 128_000_000L

/**
 * What `mobileclf` made of files, repeated. tests/test_android_kotlin.py writes the folder, names it
 * by the property and reads what is written to it here.
 */
@EnabledIfSystemProperty(named = FOLDER, matches = ".+")
class GoldenTest {
    private val folder = File(System.getProperty(FOLDER))
    private val cases = Fields(Json.parse(File(folder, "cases.json").readBytes()) as Json.Obj, "")

    /** Names what differs, all of it, and tells the Python side how much was compared. */
    private fun compare(what: String, differences: List<String>, compared: Int) {
        assertTrue(differences.isEmpty(), differences.take(20).joinToString("\n", "$what:\n"))
        File(folder, "compared.$what").writeText("$compared")
    }

    @Test
    fun `the container of every file is read and refused as in Python`() {
        val files = cases.list("files").filter { it.textOrNull("file") != null }
        File(folder, "cleaned").mkdirs()
        val differences = files.mapNotNull { case ->
            val file = File(folder, case.text("file"))
            val found = inspect(file.readBytes(), MOST)
            if (found is Container.Photo) {
                val cleaned = File(folder, "cleaned/${file.name}")
                cleaned.outputStream().use { out -> found.stream.stream().use { it.copyTo(out) } }
                assertEquals(cleaned.length(), found.stream.size.toLong())
            }
            val wanted = case.textOrNull("refused") ?: listOf(
                case.text("kind"), case.whole("width", 1L..MOST), case.whole("height", 1L..MOST),
                case.whole("orientation", 1L..8L),
            ).joinToString(" ")
            "${file.name}: wanted $wanted, found ${shown(found)}".takeIf { shown(found) != wanted }
        }
        compare("containers", differences, files.size)
    }

    private fun shown(found: Container) = when (found) {
        is Container.Refused -> found.why
        is Container.Photo -> found.run { "$kind $width $height $orientation" }
    }

    @Test
    fun `every input and every decoded picture is the same to the byte`() {
        val files = cases.list("files").filter { it.textOrNull("rows") != null }
        var compared = 0
        val differences = ArrayList<String>()
        for (case in files) {
            val name = case.text("rows")
            val rows = Stored(
                case.whole("width", 1L..MOST).toInt(), case.whole("height", 1L..MOST).toInt(),
                File(folder, name).readBytes(),
            )
            val turned = case.whole("orientation", 1L..8L).toInt()
            if (decodedSha256(rows, turned) != case.hash("decoded_sha256")) differences += "$name: turned"
            for (input in case.list("inputs")) {
                val size = listOf("width", "height", "channels").map { input.whole(it, 1L..4096L).toInt() }
                val pixels = modelInput(rows, turned, size[0], size[1], size[2])
                if (sha256(pixels) != input.hash("sha256")) differences += "$name: $size"
                compared++
            }
        }
        compare("inputs", differences, compared)
    }

    @Test
    fun `every verdict is the same`() {
        var compared = 0
        val differences = ArrayList<String>()
        for (case in cases.list("decisions")) {
            val (classes, decision) = rules(case)
            for (photo in case.list("photos")) {
                val outputs = photo.wholes("output", 0L..LARGEST).toIntArray()
                val found = verdict(outputs, classes, decision, bounded = false)
                if (words(found) != photo.text("verdict")) {
                    differences += "$classes $decision ${outputs.toList()}: $found, not ${photo.text("verdict")}"
                }
                compared++
            }
        }
        compare("verdicts", differences, compared)
    }

    @Test
    fun `a bundle of Python's is read, and its golden outputs are called as recorded`() {
        val bundle = read(inFolder(File(folder, "bundle")))
        val observed = bundle.golden.map {
            Observed(Kind.PNG, it.decodedSha256, it.inputSha256, it.output.toIntArray())
        }
        assertEquals(Check.Passed(emptyList(), emptyList()), judge(bundle, observed))
        compare("golden", emptyList(), bundle.golden.size)
    }
}
