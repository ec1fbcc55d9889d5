package mobileclf.classifier

import kotlin.math.abs

/**
 * From pixels to the model's input, to the byte as Pillow's
 * `resize((width, h), BILINEAR).resize((width, height), BILINEAR)`.
 *
 * Two passes of one axis each, horizontal first, 8 bits between them. Each pass is Pillow's: a
 * triangle filter that widens when it scales down, weights as doubles, then as whole numbers of
 * 2^-22, the sum rounded half up. Android's own scaling gives other bytes.
 *
 * rows: as stored, to be turned by `orientation`. channels: 3 is RGB, 1 grey, which is made before
 * resizing by (19595 R + 38470 G + 7471 B + 32768) >> 16. Returns width * height * channels bytes.
 */
fun modelInput(rows: Rows, orientation: Int, width: Int, height: Int, channels: Int): ByteArray {
    require(rows.width > 0 && rows.height > 0) { "a picture without pixels" }
    require(channels == 1 || channels == 3) { "channels $channels" }
    val turn = Turn.of(orientation)
    val lines = Lines(rows, turn)
    val out = ByteArray(width * height * channels)
    // A line is an upright row, or, of a transposed picture, an upright column. The first pass is
    // horizontal: along a row, but across columns.
    if (turn.transposed) {
        val down = Axis(lines.length, height)
        val columns = Across(Axis(lines.count, width), lines.length * channels) { x, column ->
            val narrow = down.along(column, channels)
            for (y in 0 until height) {
                narrow.copyInto(out, (y * width + x) * channels, y * channels, (y + 1) * channels)
            }
        }
        eachLine(lines, channels, columns::feed)
    } else {
        val along = Axis(lines.length, width)
        val down = Across(Axis(lines.count, height), width * channels) { y, row ->
            row.copyInto(out, y * width * channels)
        }
        eachLine(lines, channels) { line -> down.feed(along.along(line, channels)) }
    }
    return out
}

private inline fun eachLine(lines: Lines, channels: Int, use: (ByteArray) -> Unit) {
    val colours = IntArray(lines.length)
    val samples = ByteArray(lines.length * channels)
    for (line in 0 until lines.count) {
        lines.read(line, colours)
        if (channels == 1) grey(colours, samples) else colour(colours, samples)
        use(samples)
    }
}

private fun colour(colours: IntArray, into: ByteArray) {
    var at = 0
    for (colour in colours) {
        into[at++] = (colour shr 16).toByte()
        into[at++] = (colour shr 8).toByte()
        into[at++] = colour.toByte()
    }
}

private fun grey(colours: IntArray, into: ByteArray) {
    for (x in colours.indices) {
        val colour = colours[x]
        val red = (colour shr 16) and 255
        val green = (colour shr 8) and 255
        into[x] = ((19595 * red + 38470 * green + 7471 * (colour and 255) + 32768) shr 16).toByte()
    }
}

private const val BITS = 22
private const val HALF = 1 shl (BITS - 1)

/** Which inputs an output is made of, and with what weights: Pillow's `precompute_coeffs`. */
internal class Axis(inputs: Int, val outputs: Int) {
    val first = IntArray(outputs)
    val weights: Array<IntArray>

    init {
        val scale = inputs.toDouble() / outputs
        val support = maxOf(scale, 1.0) // of the triangle, which is 1 wide on each side
        val narrow = 1.0 / support
        weights = Array(outputs) { at ->
            val centre = (at + 0.5) * scale
            // toInt cuts towards zero, as the cast in C does.
            val from = maxOf((centre - support + 0.5).toInt(), 0)
            val to = minOf((centre + support + 0.5).toInt(), inputs)
            first[at] = from
            fixed(DoubleArray(to - from) { triangle((it + from - centre + 0.5) * narrow) })
        }
    }

    fun last(at: Int): Int = first[at] + weights[at].size - 1

    /** One line made `outputs` long. */
    fun along(line: ByteArray, channels: Int): ByteArray {
        val out = ByteArray(outputs * channels)
        for (at in 0 until outputs) {
            val own = weights[at]
            for (channel in 0 until channels) {
                var from = first[at] * channels + channel
                var sum = HALF
                for (weight in own) {
                    sum += weight * (line[from].toInt() and 255)
                    from += channels
                }
                out[at * channels + channel] = clipped(sum)
            }
        }
        return out
    }
}

private fun triangle(x: Double): Double = if (abs(x) < 1.0) 1.0 - abs(x) else 0.0

private fun fixed(weights: DoubleArray): IntArray {
    var total = 0.0
    for (weight in weights) total += weight // in this order, as sums of doubles depend on it
    return IntArray(weights.size) {
        val share = if (total != 0.0) weights[it] / total else weights[it]
        (0.5 + share * (1 shl BITS)).toInt()
    }
}

// The weights of one output sum to 2^22 but for rounding, so 255 times that stays in an Int.
private fun clipped(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()

/**
 * The pass across lines that come one after another: each finished line goes to `done` with its
 * index, in rising order. Holds only the sums of lines that are begun and not finished.
 */
internal class Across(
    private val axis: Axis,
    private val length: Int,
    private val done: (Int, ByteArray) -> Unit,
) {
    private val begun = ArrayDeque<IntArray>() // of outputs `finished` and on
    private val free = ArrayList<IntArray>()
    private val line = ByteArray(length)
    private var finished = 0
    private var fed = 0

    fun feed(samples: ByteArray) {
        while (finished + begun.size < axis.outputs && axis.first[finished + begun.size] <= fed) {
            begun += (free.removeLastOrNull() ?: IntArray(length)).apply { fill(HALF) }
        }
        for ((behind, sums) in begun.withIndex()) add(finished + behind, sums, samples)
        fed++
        while (begun.isNotEmpty() && axis.last(finished) < fed) finish()
    }

    private fun add(output: Int, sums: IntArray, samples: ByteArray) {
        val weight = axis.weights[output].getOrElse(fed - axis.first[output]) { 0 }
        if (weight == 0) return
        for (i in 0 until length) sums[i] += weight * (samples[i].toInt() and 255)
    }

    private fun finish() {
        val sums = begun.removeFirst()
        for (i in 0 until length) line[i] = clipped(sums[i])
        free += sums
        done(finished++, line)
    }
}
