package mobileclf.android

import android.content.res.AssetManager
import mobileclf.classifier.BundleFiles
import java.io.FileInputStream
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** A bundle's files where a model need not be read whole: it is mapped into memory. */
interface BundlePlace : BundleFiles {
    fun mapped(name: String): ByteBuffer
}

/** A bundle in `folder` of an app's assets. */
class AssetBundle(private val assets: AssetManager, private val folder: String) : BundlePlace {
    override fun open(name: String): InputStream = assets.open("$folder/$name")

    override fun mapped(name: String): ByteBuffer = assets.openFd("$folder/$name").use { part ->
        // Throws for an asset that is packed: build.gradle.kts has noCompress for that.
        FileInputStream(part.fileDescriptor).channel.use {
            it.map(FileChannel.MapMode.READ_ONLY, part.startOffset, part.declaredLength)
        }
    }
}
