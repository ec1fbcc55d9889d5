package mobileclf.classifier

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Runs the bundle's model: one input, one output, as `org.tensorflow.lite.Interpreter.run`. */
fun interface Engine {
    /** Both are direct, in native order, at 0, and of just the size of the model's ends. */
    fun run(input: ByteBuffer, output: ByteBuffer)
}

/** What the model answers to a picture of bytes, in quanta, one for each label. */
fun outputs(engine: Engine, pixels: ByteArray, input: Type, output: Type, labels: Int): IntArray {
    val answer = direct(labels * output.bytes)
    engine.run(asInput(pixels, input), answer)
    return asQuanta(answer, output, labels)
}

/** Bytes as the model's input has them: int8 is the byte minus 128, exactly. */
internal fun asInput(pixels: ByteArray, type: Type): ByteBuffer {
    val input = direct(pixels.size * type.bytes)
    when (type) {
        Type.UINT8 -> input.put(pixels)
        Type.INT8 -> for (byte in pixels) input.put((byte.toInt() xor 128).toByte())
        Type.FLOAT32 -> for (byte in pixels) input.putFloat((byte.toInt() and 255).toFloat())
    }
    // As the supertype: on the oldest phones ByteBuffer has no rewind of its own.
    (input as java.nio.Buffer).rewind()
    return input
}

/** Refuses what no int8 softmax gives. */
internal fun asQuanta(answer: ByteBuffer, type: Type, labels: Int): IntArray = IntArray(labels) {
    when (type) {
        Type.UINT8 -> answer.get(it).toInt() and 255
        Type.INT8 -> answer.get(it) + 128
        Type.FLOAT32 -> {
            val quanta = answer.getFloat(4 * it) * QUANTA
            require(quanta == quanta.toInt().toFloat() && quanta in 0f..LARGEST.toFloat()) {
                "an output that is no whole number of 1/$QUANTA"
            }
            quanta.toInt()
        }
    }
}

private fun direct(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())
