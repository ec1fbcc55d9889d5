package mobileclf.demo

import android.annotation.TargetApi
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.window.OnBackInvokedCallback
import android.window.OnBackInvokedDispatcher
import mobileclf.android.PhotoProvider
import mobileclf.android.isForeignContent

private const val CHOOSE = 1
private const val TAKE = 2

/** The names under which a phone keeps what is on the screen when it ends the process. */
private const val PHOTO = "photo"
private const val SHOT = "shot"
private const val ABOUT = "about"

/** The one activity: a photo by camera, picker or share, and what the model says. */
class MainActivity : Activity() {
    private lateinit var desk: Desk
    private lateinit var screen: Screen

    /** The file that the camera was asked to write. */
    private var shot: String? = null
    private var aboutShown = false

    /** An OnBackInvokedCallback, which before API 33 is no class. */
    private var back: Any? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        keepClear(findViewById(R.id.root))
        screen = Screen(this)
        findViewById<View>(R.id.take).setOnClickListener { takePhoto() }
        findViewById<View>(R.id.choose).setOnClickListener { choosePhoto() }
        findViewById<View>(R.id.about_button).setOnClickListener { showAbout(true) }
        findViewById<View>(R.id.back).setOnClickListener { showAbout(false) }
        findViewById<View>(R.id.check_again).setOnClickListener { desk.checkAgain() }
        shot = saved?.getString(SHOT)
        val before = lastNonConfigurationInstance as Desk?
        desk = before ?: Desk(application as DemoApp)
        desk.changed = { screen.render(desk) }
        // After a turn the desk is there; after the end of the process its photo's copy is.
        when {
            before != null -> screen.render(desk)
            saved == null && intent.action == Intent.ACTION_SEND -> takeShared(intent)
            else -> desk.open(saved?.getString(PHOTO))
        }
        showAbout(saved?.getBoolean(ABOUT) == true)
    }

    @Suppress("OVERRIDE_DEPRECATION") // an activity without AndroidX has no other that keeps objects
    override fun onRetainNonConfigurationInstance(): Any = desk

    override fun onSaveInstanceState(out: Bundle) {
        super.onSaveInstanceState(out)
        out.putString(PHOTO, desk.photo)
        out.putString(SHOT, shot)
        out.putBoolean(ABOUT, aboutShown)
    }

    override fun onDestroy() {
        desk.changed = {}
        showBack(false)
        super.onDestroy()
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (result != RESULT_OK) return
        when (request) {
            CHOOSE -> take(data?.data)
            TAKE -> takeShot()
        }
    }

    private fun take(uri: Uri?) {
        if (uri == null || !isForeignContent(uri, PhotoProvider.authority(this))) {
            desk.refuse(Trouble.FOREIGN)
        } else {
            desk.take(uri)
        }
    }

    @Suppress("DEPRECATION") // its successor is of API 33
    private fun takeShared(intent: Intent) = take(
        try {
            intent.getParcelableExtra<Uri>(Intent.EXTRA_STREAM)
        } catch (_: RuntimeException) { // what another app packed in may be of any class
            null
        },
    )

    private fun takeShot() {
        val name = shot
        shot = null
        val length = name?.let { (application as DemoApp).photos.file(it) }?.length() ?: 0
        if (name == null || length == 0L) desk.refuse(Trouble.NO_SHOT) else desk.look(name)
    }

    private fun takePhoto() {
        val name = (application as DemoApp).photos.fresh()
        val uri = PhotoProvider.uri(this, name)
        // Without a place to write to, a camera returns a thumbnail. The clip carries the grant.
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE)
            .putExtra(MediaStore.EXTRA_OUTPUT, uri)
            .addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        intent.clipData = ClipData.newRawUri("", uri)
        shot = name
        if (!started(intent, TAKE)) desk.refuse(Trouble.NO_CAMERA)
    }

    private fun choosePhoto() {
        val any = Intent(Intent.ACTION_GET_CONTENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        val fromPicker = Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU && started(From33.picker(), CHOOSE)
        if (!fromPicker && !started(any, CHOOSE)) desk.refuse(Trouble.NO_PICKER)
    }

    private fun started(intent: Intent, request: Int): Boolean = try {
        startActivityForResult(intent, request)
        true
    } catch (_: ActivityNotFoundException) {
        false
    } catch (_: SecurityException) { // a phone where another app's activity is kept closed
        false
    }

    private fun showAbout(yes: Boolean) {
        aboutShown = yes
        findViewById<View>(R.id.about).visibility = if (yes) View.VISIBLE else View.GONE
        // What lies beneath is not to be reached by a keyboard or a screen reader.
        findViewById<View>(R.id.main).visibility = if (yes) View.GONE else View.VISIBLE
        showBack(yes)
    }

    private fun showBack(closesAbout: Boolean) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return
        back?.let { From33.release(this, it) }
        back = if (closesAbout) From33.onBack(this) { showAbout(false) } else null
    }

    @Suppress("OVERRIDE_DEPRECATION", "DEPRECATION") // called before API 33 only
    override fun onBackPressed() = if (aboutShown) showAbout(false) else super.onBackPressed()
}

@TargetApi(Build.VERSION_CODES.TIRAMISU)
private object From33 {
    fun picker(): Intent = Intent(MediaStore.ACTION_PICK_IMAGES).setType("image/*")

    fun onBack(activity: Activity, run: () -> Unit): Any {
        val callback = OnBackInvokedCallback { run() }
        activity.onBackInvokedDispatcher
            .registerOnBackInvokedCallback(OnBackInvokedDispatcher.PRIORITY_DEFAULT, callback)
        return callback
    }

    fun release(activity: Activity, callback: Any) =
        activity.onBackInvokedDispatcher.unregisterOnBackInvokedCallback(callback as OnBackInvokedCallback)
}
