package mobileclf.demo

import android.app.Application
import android.os.Handler
import android.os.Looper
import mobileclf.android.AssetBundle
import mobileclf.android.BitmapDecoder
import mobileclf.android.BundlePlace
import mobileclf.android.LiteRtEngine
import mobileclf.android.Recognizer
import mobileclf.android.checkRecord
import mobileclf.android.memoryAtHand
import mobileclf.android.photoStore
import mobileclf.android.recognizer
import java.io.File
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** What lives as long as the process: the model, and the one thread that everything slow is done on. */
open class DemoApp : Application() {
    val worker: ExecutorService = Executors.newSingleThreadExecutor()
    val main = Handler(Looper.getMainLooper())
    val photos by lazy { photoStore(this) }
    val decoder = BitmapDecoder { memoryAtHand(this) }

    /** The photo that is being looked at. Where it is still named at a start, it ended the app. */
    val marker by lazy { File(noBackupFilesDir, "working") }
    private var loaded: Recognizer? = null

    open fun place(): BundlePlace = AssetBundle(assets, "mobileclf")

    override fun onCreate() {
        super.onCreate()
        worker.execute { photos.tidy(System.currentTimeMillis() - KEPT_MS) }
    }

    /** On the worker only. again: run the self-check whatever is kept of it. */
    fun recognizer(again: Boolean = false): Recognizer {
        val before = loaded
        if (before != null && !again) return before
        // The engine of before stays open until the process ends: others may hold it.
        val found = recognizer(place(), decoder, { LiteRtEngine(it) }, { checkRecord(this, it) }, again)
        return found.also { loaded = it }
    }
}

private const val KEPT_MS = 24L * 60 * 60 * 1000
