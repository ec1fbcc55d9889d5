package mobileclf.android

import mobileclf.classifier.Engine
import org.tensorflow.lite.Interpreter
import java.io.Closeable
import java.nio.ByteBuffer

/**
 * LiteRT with XNNPACK, whose answers the bundle's golden cases are: the built-in kernels give others.
 *
 * model: direct or mapped, and left alone while this is open. Not for several threads at once.
 */
class LiteRtEngine(model: ByteBuffer, threads: Int = 2) : Engine, Closeable {
    private val interpreter = Interpreter(
        model,
        Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true),
    )

    override fun run(input: ByteBuffer, output: ByteBuffer) = interpreter.run(input, output)

    override fun close() = interpreter.close()
}
