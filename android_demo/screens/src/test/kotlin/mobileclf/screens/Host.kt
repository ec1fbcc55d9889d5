package mobileclf.screens

import android.app.Activity
import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Looper
import android.view.View
import android.widget.TextView
import mobileclf.android.BundlePlace
import mobileclf.demo.DemoApp
import mobileclf.demo.MainActivity
import mobileclf.demo.R
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.File
import java.nio.ByteBuffer

const val PHONE = "w400dp-h860dp-xhdpi"

/** The app with a bundle from a folder, where a test names one; else with its own. */
class HostApp : DemoApp() {
    override fun place(): BundlePlace = folder?.let { InFolder(it) } ?: super.place()

    override fun onCreate() {
        memory(1L shl 30)
        super.onCreate()
    }

    fun memory(bytes: Long) {
        val manager = getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager
        shadowOf(manager).setMemoryInfo(ActivityManager.MemoryInfo().apply { availMem = bytes })
    }

    companion object {
        var folder: File? = null
    }
}

class InFolder(private val folder: File) : BundlePlace {
    override fun open(name: String) = File(folder, name).takeIf { it.isFile }?.inputStream()

    override fun mapped(name: String): ByteBuffer = File(folder, name).readBytes().let { bytes ->
        ByteBuffer.allocateDirect(bytes.size).apply {
            put(bytes)
            rewind()
        }
    }
}

typealias Started = ActivityController<MainActivity>

fun started(intent: Intent? = null): Started = Robolectric.buildActivity(MainActivity::class.java, intent).setup()

fun app(): DemoApp = RuntimeEnvironment.getApplication() as DemoApp

/** Until the worker has nothing to do, and what it handed to the main thread is done. */
fun settle() = repeat(3) {
    app().worker.submit {}.get()
    shadowOf(Looper.getMainLooper()).idle()
}

/** A photo in another app's hands. */
fun lent(bytes: ByteArray): Uri = Uri.parse("content://some.gallery/photo/7").also { uri ->
    shadowOf(app().contentResolver).registerInputStreamSupplier(uri) { bytes.inputStream() }
}

fun sharing(uri: Uri): Intent = Intent(Intent.ACTION_SEND).setType("image/*").putExtra(Intent.EXTRA_STREAM, uri)
    .setClass(app() as Context, MainActivity::class.java)

fun share(bytes: ByteArray): Started = started(sharing(lent(bytes))).also { settle() }

fun pick(bytes: ByteArray): Started = started().also { controller ->
    settle()
    val activity = controller.get()
    activity.findViewById<View>(R.id.choose).performClick()
    val asked = shadowOf(activity).nextStartedActivityForResult
    shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(lent(bytes)))
    settle()
}

fun shoot(bytes: ByteArray): Started = started().also { controller ->
    settle()
    val activity = controller.get()
    activity.findViewById<View>(R.id.take).performClick()
    val asked = shadowOf(activity).nextStartedActivityForResult
    val uri = asked.intent.clipData!!.getItemAt(0).uri
    activity.contentResolver.openOutputStream(uri)!!.use { it.write(bytes) }
    shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_OK, null)
    settle()
}

fun Activity.said(id: Int): String? =
    findViewById<TextView>(id).takeIf { it.isShown }?.text?.toString()

/** What the activity looks like, as a PNG to look at. */
fun Activity.screenshot(name: String) {
    val view = window.decorView
    val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
    view.draw(Canvas(bitmap))
    save(bitmap, name)
    check(bitmap.getPixel(view.width / 2, view.height / 2) ushr 24 == 255) { "nothing was drawn" }
}

fun save(bitmap: Bitmap, name: String) {
    val file = File(System.getProperty("mobileclf.screenshots"), "$name.png")
    file.parentFile!!.mkdirs()
    file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
}
