package mobileclf.classifier

/** Makes pixels of a photo: `BitmapFactory` on Android. */
interface Decoder {
    /** Bytes that a decoded picture may take now; the system kills what takes more. */
    fun room(): Long

    /**
     * `use` gets the stored pixels: not turned, not scaled, colours and alpha as in the stream.
     * Throws where there are none. What was decoded is given back before this returns.
     */
    fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T
}

/** A label and its output. quanta: 256 of them are probability 1. */
data class Nearest(val label: String, val group: String?, val quanta: Int)

/**
 * A verdict with what a screen shows beside it.
 *
 * score, threshold: what decides, in quanta; both 0 without an answer. nearest: the largest outputs,
 * at most three. bounded: the answer holds within the kernel bound only.
 */
data class Answer(
    val verdict: Verdict,
    val score: Int = 0,
    val threshold: Int = 0,
    val nearest: List<Nearest> = emptyList(),
    val bounded: Boolean = false,
)

/**
 * Names photos by a bundle. Whatever goes wrong, a photo, the decoder, the model, memory: the answer
 * is [Verdict.NoVerdict], and never a guess.
 *
 * check: what [selfCheck] found on this phone; without a passed one there is no verdict. Not for
 * several threads at once, as an interpreter is not.
 */
class Classifier(private val bundle: Bundle, private val engine: Engine, private val check: Check) {

    /** A photo's file, as `mobileclf predict` names it. */
    fun classify(file: ByteArray, decoder: Decoder): Answer = safely { passed ->
        when (val found = inspect(file, bundle.input.maxPixels)) {
            is Container.Refused -> Answer(Verdict.NoVerdict(found.why))
            is Container.Photo -> classify(found, decoder, passed)
        }
    }

    /**
     * Pixels that an app already has: upright and of the whole photo, at its own size. How they were
     * decoded is the app's doing, so the answer is `mobileclf`'s only for the same pixels.
     */
    fun classify(rows: Rows): Answer = safely { passed ->
        if (rows.width.toLong() * rows.height > bundle.input.maxPixels) {
            Answer(Verdict.NoVerdict(tooLarge(rows.width, rows.height)))
        } else {
            answer(input(bundle, rows, 1), passed.bounded)
        }
    }

    private fun classify(photo: Container.Photo, decoder: Decoder, passed: Check.Passed): Answer {
        // From the header, before a decoder takes memory: no error can be caught after that.
        if (photo.width.toLong() * photo.height * BYTES_A_PIXEL > decoder.room()) {
            return Answer(Verdict.NoVerdict(tooLarge(photo.width, photo.height)))
        }
        val pixels = decoder.decode(photo) { rows -> input(bundle, sized(rows, photo), photo.orientation) }
        return answer(pixels, passed.bounded || !photo.exact)
    }

    private fun answer(pixels: ByteArray, bounded: Boolean): Answer {
        val (classes, decision) = bundle.classes to bundle.decision
        val quanta = outputs(engine, pixels, bundle.input.type, bundle.output, classes.labels.size)
        return Answer(
            verdict = verdict(quanta, classes, decision, bounded),
            score = score(quanta, classes),
            threshold = decision.threshold,
            nearest = ranked(quanta).take(NEAREST)
                .map { Nearest(classes.labels[it], classes.groups[it], quanta[it]) },
            bounded = bounded,
        )
    }

    private fun safely(work: (Check.Passed) -> Answer): Answer = try {
        when (check) {
            is Check.Failed -> Answer(Verdict.NoVerdict("self-check failed: ${check.why}"))
            is Check.Passed -> work(check)
        }
    } catch (error: Throwable) { // no memory and no native library are errors, not exceptions
        if (error is InterruptedException) Thread.currentThread().interrupt()
        Answer(Verdict.NoVerdict("an error (${error.javaClass.simpleName}: ${error.message})"))
    }
}

private const val BYTES_A_PIXEL = 4
private const val NEAREST = 3

private fun tooLarge(width: Int, height: Int) = "photo too large: $width x $height pixels"

/** Rows of just the size that the container names: a decoder that scaled would give another input. */
internal fun sized(rows: Rows, photo: Container.Photo): Rows {
    // A HEIC's pictures are named unturned, and its decoder turns them.
    val turned = photo.kind == Kind.HEIC && rows.width == photo.height && rows.height == photo.width
    check(turned || (rows.width == photo.width && rows.height == photo.height)) {
        "decoded to ${rows.width} x ${rows.height}, not ${photo.width} x ${photo.height}"
    }
    return rows
}

internal fun input(bundle: Bundle, rows: Rows, orientation: Int): ByteArray =
    bundle.input.run { modelInput(rows, orientation, width, height, channels) }
