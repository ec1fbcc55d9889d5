package mobileclf.demo

import android.graphics.Bitmap
import android.net.Uri
import mobileclf.android.Kept
import mobileclf.android.Recognizer
import mobileclf.android.preview
import mobileclf.classifier.Answer
import mobileclf.classifier.Container
import mobileclf.classifier.inspect
import java.io.IOException

/** What became of the photo. */
sealed interface Scene {
    data object Empty : Scene
    data object LoadingModel : Scene
    data object LookingAtPhoto : Scene
    class Answered(val picture: Bitmap?, val answer: Answer) : Scene

    /** The photo did not come as far as the model. */
    data class NotRead(val why: Trouble) : Scene

    /** The model did not. */
    class NoModel(val model: Recognizer.Broken) : Scene
}

/** Why a photo was not looked at. */
enum class Trouble(val text: Int) {
    FOREIGN(R.string.refused_foreign),
    UNREADABLE(R.string.refused_unreadable),
    EMPTY(R.string.refused_empty),
    LARGE(R.string.refused_large),
    GONE(R.string.refused_gone),
    STOPPED(R.string.refused_stopped),
    NO_CAMERA(R.string.no_camera),
    NO_PICKER(R.string.no_picker),
    NO_SHOT(R.string.no_shot),
}

/**
 * One photo on its way to a verdict. It outlives the activity that shows it: a phone that is turned
 * makes another activity. All but the work itself is on the main thread.
 */
class Desk(private val app: DemoApp) {
    var photo: String? = null
        private set
    var scene: Scene = Scene.LoadingModel
        private set
    var recognizer: Recognizer? = null
        private set
    var changed: () -> Unit = {}

    /** Counts what was asked for: an answer that comes late must not stand beside another photo. */
    private var asked = 0

    /** Loads the model; `before` is the photo that was shown when the process ended. */
    fun open(before: String?) {
        if (before != null) return look(before, restored = true)
        begin(Scene.LoadingModel) { sceneWithout(app.recognizer()) }
    }

    /** A photo of another app's, which only `uri` may be asked for, and only now. */
    fun take(uri: Uri) {
        photo = null
        begin(Scene.LookingAtPhoto) { mine ->
            when (val kept = app.photos.keep { app.contentResolver.openInputStream(uri) }) {
                is Kept.Refused -> Scene.NotRead(trouble(kept.why))
                is Kept.Photo -> {
                    app.main.post { if (mine == asked) photo = kept.name }
                    answered(kept.name)
                }
            }
        }
    }

    /** A photo that lies in the store. */
    fun look(name: String, restored: Boolean = false) {
        photo = name
        begin(Scene.LookingAtPhoto) {
            if (restored && wasStopped(name)) Scene.NotRead(Trouble.STOPPED) else answered(name)
        }
    }

    fun refuse(why: Trouble) {
        photo = null
        asked++
        show(Scene.NotRead(why))
    }

    fun checkAgain() {
        val name = photo
        begin(Scene.LoadingModel) {
            val found = app.recognizer(again = true)
            if (name == null) sceneWithout(found) else answered(name)
        }
    }

    private fun begin(meanwhile: Scene, work: (Int) -> Scene) {
        val mine = ++asked
        show(meanwhile)
        app.worker.execute {
            val found = work(mine)
            val model = app.recognizer()
            app.main.post {
                recognizer = model
                if (mine == asked) show(found) else changed()
            }
        }
    }

    private fun show(found: Scene) {
        scene = found
        changed()
    }

    /** On the worker. */
    private fun answered(name: String): Scene {
        val model = app.recognizer()
        if (model !is Recognizer.Ready) return sceneWithout(model)
        val bytes = app.photos.read(name) ?: return Scene.NotRead(Trouble.GONE)
        mark(name)
        try {
            val answer = model.classifier.classify(bytes, app.decoder)
            return Scene.Answered(picture(bytes, model.bundle.input.maxPixels), answer)
        } finally {
            app.marker.delete()
        }
    }

    private fun picture(bytes: ByteArray, maxPixels: Long): Bitmap? = try {
        (inspect(bytes, maxPixels) as? Container.Photo)?.let { preview(it, PREVIEW) }
    } catch (_: Throwable) { // no memory for it: the verdict stands without
        null
    }

    /** Over its memory the system ends an app without an error, and would again at each start. */
    private fun mark(name: String) = try {
        app.marker.writeText(name)
    } catch (_: IOException) {
        app.marker.delete() // a full disk: a crash loop is then possible, as in any app
    }

    private fun wasStopped(name: String): Boolean = try {
        app.marker.readText() == name
    } catch (_: IOException) {
        false
    }.also { app.marker.delete() }
}

private const val PREVIEW = 1024

private fun sceneWithout(model: Recognizer): Scene = when (model) {
    is Recognizer.Ready -> Scene.Empty
    is Recognizer.Broken -> Scene.NoModel(model)
}

private fun trouble(why: Kept.Reason) = when (why) {
    Kept.Reason.UNREADABLE -> Trouble.UNREADABLE
    Kept.Reason.EMPTY -> Trouble.EMPTY
    Kept.Reason.TOO_LARGE -> Trouble.LARGE
}
