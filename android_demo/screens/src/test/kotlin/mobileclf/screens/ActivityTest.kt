package mobileclf.screens

import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Insets
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets
import android.widget.ImageView
import mobileclf.android.PhotoProvider
import mobileclf.demo.MainActivity
import mobileclf.demo.R
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

/** The activity with the bundle that the app ships with. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [34], application = HostApp::class, qualifiers = PHONE)
class ActivityTest {
    private val photo = File("../app/src/main/assets/mobileclf/golden/2.jpg").readBytes()

    @Before
    fun own() {
        HostApp.folder = null
    }

    @After
    fun idle() = settle()

    private fun harmful() = app().getString(R.string.verdict_harmful, "NotEdible")

    @Test
    fun `the first screen and the one about the model`() {
        for (night in listOf("notnight", "night")) {
            RuntimeEnvironment.setQualifiers("+$night")
            val controller = started()
            settle()
            val activity = controller.get()
            assertNotNull(activity.said(R.id.hint))
            assertNotNull(activity.said(R.id.demo_banner))
            assertNotNull(activity.said(R.id.warning))
            activity.screenshot("start.$night")
            activity.findViewById<View>(R.id.about_button).performClick()
            settle()
            val sections = activity.findViewById<ViewGroup>(R.id.about_sections)
            val words = (0 until sections.childCount).joinToString("\n") {
                sections.getChildAt(it).findViewById<android.widget.TextView>(R.id.section_text).text
            }
            for (wanted in listOf(R.string.check_passed, R.string.warning, R.string.about_demo)) {
                assertTrue(words, app().getString(wanted) in words)
            }
            assertTrue(words, "93" in words)
            activity.screenshot("about.$night")
            activity.findViewById<View>(R.id.check_again).performClick()
            settle()
            assertTrue(sections.childCount > 0)
            activity.findViewById<View>(R.id.back).performClick()
            assertFalse(activity.findViewById<View>(R.id.about).isShown)
            controller.pause().stop().destroy()
        }
    }

    @Test
    fun `a turned phone keeps the verdict`() {
        val controller = share(photo)
        assertEquals(harmful(), controller.get().said(R.id.verdict))
        RuntimeEnvironment.setQualifiers("+land")
        controller.recreate()
        settle()
        val turned = controller.get()
        assertEquals(harmful(), turned.said(R.id.verdict))
        turned.screenshot("turned")
    }

    @Test
    fun `the photo is there again after the process ended`() {
        val kept = Bundle()
        val first = share(photo)
        first.saveInstanceState(kept).pause().stop().destroy()
        val again = Robolectric.buildActivity(MainActivity::class.java).setup(kept)
        settle()
        assertEquals(harmful(), again.get().said(R.id.verdict))
    }

    @Test
    fun `a photo that ended the app is not looked at again`() {
        val kept = Bundle()
        share(photo).saveInstanceState(kept).pause().stop().destroy()
        app().marker.writeText(app().photos.let { kept.getString("photo")!! })
        val again = Robolectric.buildActivity(MainActivity::class.java).setup(kept)
        settle()
        assertEquals(app().getString(R.string.verdict_none), again.get().said(R.id.verdict))
        assertEquals(app().getString(R.string.refused_stopped), again.get().said(R.id.detail))
    }

    @Test
    fun `the camera is given a place to write to and no permission is asked`() {
        val activity = started().get()
        settle()
        activity.findViewById<View>(R.id.take).performClick()
        val asked = shadowOf(activity).nextStartedActivityForResult.intent
        assertEquals("android.media.action.IMAGE_CAPTURE", asked.action)
        val uri = asked.clipData!!.getItemAt(0).uri
        assertEquals("mobileclf.demo.photos", uri.authority)
        assertTrue(asked.flags and Intent.FLAG_GRANT_WRITE_URI_PERMISSION != 0)
        // A camera that says yes and writes nothing.
        shadowOf(activity).receiveResult(asked, android.app.Activity.RESULT_OK, null)
        assertEquals(app().getString(R.string.no_shot), activity.said(R.id.detail))
        val own = app().packageManager
            .getPackageInfo(app().packageName, android.content.pm.PackageManager.GET_PERMISSIONS)
        assertEquals(null, own.requestedPermissions?.toList())
    }

    @Test
    fun `what is no other app's content is refused`() {
        val ours = PhotoProvider.uri(app(), app().photos.fresh())
        for (uri in listOf("file:///etc/passwd", "$ours", "content://0@mobileclf.demo.photos/x", "http://x/y")) {
            val activity = started(sharing(Uri.parse(uri))).get()
            settle()
            assertEquals(app().getString(R.string.refused_foreign), activity.said(R.id.detail))
            assertEquals(app().getString(R.string.verdict_none), activity.said(R.id.verdict))
        }
        val nothing = Intent(Intent.ACTION_SEND).setClass(app(), MainActivity::class.java)
        val activity = started(nothing).get()
        settle()
        assertEquals(app().getString(R.string.refused_foreign), activity.said(R.id.detail))
    }

    @Suppress("DEPRECATION")
    @Test
    fun `back leads from the screen about the model to the photo`() {
        val activity = share(photo).get()
        activity.findViewById<View>(R.id.about_button).performClick()
        assertEquals(null, activity.said(R.id.verdict))
        activity.onBackPressed()
        assertEquals(harmful(), activity.said(R.id.verdict))
        assertFalse(activity.isFinishing)
        activity.onBackPressed()
        assertTrue(activity.isFinishing)
    }

    @Test
    fun `the icon`() {
        val icon = app().applicationInfo.loadIcon(app().packageManager)
        val bitmap = Bitmap.createBitmap(216, 216, Bitmap.Config.ARGB_8888)
        icon.setBounds(0, 0, 216, 216)
        icon.draw(Canvas(bitmap))
        save(bitmap, "icon")
        assertTrue((0 until 216).map { bitmap.getPixel(it, 108) }.distinct().size > 2)
    }

    @Test
    fun `an empty photo`() {
        val activity = share(ByteArray(0)).get()
        assertEquals(app().getString(R.string.refused_empty), activity.said(R.id.detail))
        activity.screenshot("empty")
    }

    @Test
    fun `a photo for which there is no memory is not decoded`() {
        (app() as HostApp).memory(100_000)
        val activity = share(photo).get()
        assertEquals(app().getString(R.string.verdict_none), activity.said(R.id.verdict))
        assertTrue("photo too large" in activity.said(R.id.detail)!!)
    }

    @Test
    fun `nothing lies under the bars`() {
        val activity = share(photo).get()
        val bars = WindowInsets.Builder()
            .setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 48, 0, 96))
            .setInsets(WindowInsets.Type.displayCutout(), Insets.of(70, 0, 0, 0)).build()
        val root = activity.findViewById<View>(R.id.root)
        root.dispatchApplyWindowInsets(bars)
        assertEquals(listOf(70, 48, 0, 96), root.run { listOf(paddingLeft, paddingTop, paddingRight, paddingBottom) })
    }

    @Test
    fun `every picture is described or left out for those who do not see it`() {
        val activity = share(photo).get()
        val views = generateSequence(listOf<View>(activity.findViewById(R.id.root))) { level ->
            level.filterIsInstance<ViewGroup>().flatMap { group -> (0 until group.childCount).map(group::getChildAt) }
                .takeIf { it.isNotEmpty() }
        }.flatten().filterIsInstance<ImageView>().toList()
        assertTrue(views.size >= 4)
        for (view in views) {
            val hidden = view.importantForAccessibility == View.IMPORTANT_FOR_ACCESSIBILITY_NO
            assertTrue("$view", hidden || !view.contentDescription.isNullOrEmpty())
        }
    }

    @Test
    fun `large text and other writing`() {
        RuntimeEnvironment.setFontScale(2f)
        share(photo).get().run {
            assertEquals(harmful(), said(R.id.verdict))
            screenshot("large_text")
        }
        RuntimeEnvironment.setFontScale(1f)
        for (locale in listOf("ar", "tr")) {
            RuntimeEnvironment.setQualifiers("+$locale-ldrtl".takeIf { locale == "ar" } ?: "+$locale-ldltr")
            share(photo).get().run {
                assertEquals(harmful(), said(R.id.verdict))
                screenshot("locale_$locale")
            }
        }
    }
}
