package mobileclf.screens

import android.app.Activity
import mobileclf.android.Recognizer
import mobileclf.classifier.Bundle
import mobileclf.classifier.Check
import mobileclf.classifier.Json
import mobileclf.classifier.inFolder
import mobileclf.classifier.readBundle
import mobileclf.demo.R
import mobileclf.demo.percent
import mobileclf.demo.plain
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.ParameterizedRobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

/** A photo, the bundle it is named by (null: the app's own), and what Python says of it. */
class Case(val name: String, val bundle: File?, val photo: ByteArray, val verdict: String, val score: Int?) {
    override fun toString() = name
}

/** What is on the screen is what Python says: the golden cases, and those of `mobileclf.cases`. */
@RunWith(ParameterizedRobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [34], application = HostApp::class, qualifiers = PHONE)
class VerdictTest(private val case: Case, private val way: Int) {
    @Test
    fun `the verdict is Python's`() {
        HostApp.folder = case.bundle
        for (dark in listOf(false, true)) {
            RuntimeEnvironment.setQualifiers(if (dark) "+night" else "+notnight")
            val ways = listOf(::share, ::pick, ::shoot)
            val controller = ways[(way + if (dark) 1 else 0) % ways.size](case.photo)
            val activity = controller.get()
            activity.screenshot("${case.name}.${if (dark) "dark" else "light"}")
            assertEquals(wanted(activity), activity.said(R.id.verdict))
            val score = case.score
            if (score != null) {
                val words = activity.said(R.id.score).orEmpty()
                assertTrue(words, percent(score, activity.resources) in words)
                assertEquals(3, activity.findViewById<android.widget.LinearLayout>(R.id.nearest).childCount)
            } else {
                assertEquals(null, activity.said(R.id.score))
            }
            assertTrue(activity.said(R.id.warning)!!.isNotEmpty())
            controller.pause().stop().destroy()
        }
        if (case.score != null) {
            val model = app().worker.submit<Recognizer> { app().recognizer() }.get() as Recognizer.Ready
            assertEquals(Check.Passed(emptyList(), emptyList()), model.check)
        }
        done?.let { File(it, "compared.screens").appendText("${case.name}\n") }
    }

    private fun wanted(activity: Activity): String = when (case.verdict) {
        "not sure" -> activity.getString(R.string.verdict_not_sure)
        "no verdict" -> activity.getString(R.string.verdict_none)
        else -> {
            val bundle = readBundle(inFolder(case.bundle ?: OWN)) as Bundle
            when (bundle.classes.harmful) {
                null -> plain(case.verdict)
                case.verdict -> activity.getString(R.string.verdict_harmful, plain(case.verdict))
                else -> activity.getString(R.string.verdict_harmless, plain(case.verdict))
            }
        }
    }

    companion object {
        private val OWN = File("../app/src/main/assets/mobileclf")
        private val done = System.getProperty("mobileclf.cases")

        @JvmStatic
        @ParameterizedRobolectricTestRunner.Parameters(name = "{0}")
        fun cases(): List<Array<Any>> =
            (golden() + given()).mapIndexed { i, case -> arrayOf(case, i) }

        private fun golden(): List<Case> {
            val bundle = readBundle(inFolder(OWN)) as Bundle
            return bundle.golden.mapIndexed { i, case ->
                val harmful = bundle.classes.sum(case.output.toIntArray(), bundle.classes.harmful!!)
                Case("golden$i", null, File(OWN, case.image).readBytes(), case.verdict, harmful)
            }
        }

        /** What the Python side wrote beside its cases: bundles whole and broken, and photos. */
        private fun given(): List<Case> {
            val file = File(System.getProperty("mobileclf.cases").orEmpty(), "screens.json")
            if (!file.isFile) return emptyList()
            val cases = (Json.parse(file.readBytes()) as Json.Obj).members.getValue("cases")
            return (cases as Json.Arr).items.map { item ->
                val members = (item as Json.Obj).members
                fun text(key: String) = (members.getValue(key) as Json.Text).value
                Case(
                    name = text("name"),
                    bundle = File(file.parentFile, text("bundle")),
                    photo = File(file.parentFile, text("photo")).readBytes(),
                    verdict = text("verdict"),
                    score = (members["score"] as? Json.Number)?.text?.toInt(),
                )
            }
        }
    }
}
