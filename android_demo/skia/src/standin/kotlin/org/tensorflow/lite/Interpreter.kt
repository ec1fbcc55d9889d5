package org.tensorflow.lite

import java.nio.ByteBuffer
import org.bytedeco.javacpp.BytePointer
import org.bytedeco.javacpp.Pointer
import org.bytedeco.tensorflowlite.BuiltinOpResolverWithXNNPACK
import org.bytedeco.tensorflowlite.BuiltinOpResolverWithoutDefaultDelegates
import org.bytedeco.tensorflowlite.FlatBufferModel
import org.bytedeco.tensorflowlite.InterpreterBuilder
import org.bytedeco.tensorflowlite.TfLiteTensor
import org.bytedeco.tensorflowlite.Interpreter as Native

/**
 * What the app uses of LiteRT's class, over TensorFlow Lite's native library for this machine: the
 * real one comes with libraries for phones alone. StandInTest holds it to the real signatures.
 */
class Interpreter(model: ByteBuffer, options: Options) : AutoCloseable {
    class Options {
        internal var threads = -1
        internal var xnnpack = false

        fun setNumThreads(count: Int) = apply { threads = count }

        fun setUseXNNPACK(use: Boolean) = apply { xnnpack = use }
    }

    // The native model reads the bytes in place, so they are kept as long as it is.
    private val bytes = BytePointer(model.capacity().toLong()).apply { asBuffer().put(model.duplicate()) }
    private val flat = FlatBufferModel.VerifyAndBuildFromBuffer(bytes, bytes.capacity())
    private val native = Native(null as Pointer?)

    init {
        require(!flat.isNull) { "not a valid TensorFlow Lite model" }
        val resolver =
            if (options.xnnpack) BuiltinOpResolverWithXNNPACK() else BuiltinOpResolverWithoutDefaultDelegates()
        val builder = InterpreterBuilder(flat, resolver)
        builder.SetNumThreads(options.threads)
        ok(builder.apply(native), "built")
        ok(native.AllocateTensors(), "allocated")
    }

    fun run(input: Any, output: Any) {
        val (from, to) = native.input_tensor(0) to native.output_tensor(0)
        val given = exact(input, from)
        val wanted = exact(output, to)
        BytePointer(from.data().data()).capacity(from.bytes()).asBuffer().put(given)
        ok(native.Invoke(), "invoked")
        wanted.put(BytePointer(to.data().data()).capacity(to.bytes()).asBuffer())
    }

    override fun close() {
        native.close()
        flat.close()
        bytes.close()
    }

    private fun exact(buffer: Any, tensor: TfLiteTensor): ByteBuffer {
        val found = (buffer as ByteBuffer).duplicate()
        require(found.remaining().toLong() == tensor.bytes()) {
            "a tensor of ${tensor.bytes()} bytes and a buffer of ${found.remaining()}"
        }
        return found
    }

    private fun ok(status: Int, what: String) = check(status == 0) { "the interpreter was not $what" }
}
