package mobileclf.classifier

/** Whether this phone gives the bundle's answers. */
sealed interface Check {
    /**
     * Its verdicts are the bundle's. otherKernels, otherDecoder: the golden cases whose outputs, or
     * whose decoded JPEG, are not the same to the byte; empty on most phones.
     */
    data class Passed(val otherKernels: List<String>, val otherDecoder: List<String>) : Check {
        /** Answers hold within the kernel bound only. */
        val bounded: Boolean get() = otherKernels.isNotEmpty() || otherDecoder.isNotEmpty()
    }

    data class Failed(val why: String) : Check
}

/** What came of a golden case's picture here. */
class Observed(
    val kind: Kind,
    val decodedSha256: String,
    val inputSha256: String,
    val output: IntArray,
)

/**
 * Judges what golden cases came to, one for each of the bundle's, in its order.
 *
 * PNG decoded alike, inputs alike, outputs alike: passed. Another JPEG decoder, or outputs whose
 * score lies within the kernel bound of the proven one: passed as such. Anything else: failed.
 */
fun judge(bundle: Bundle, observed: List<Observed>): Check {
    val failure = bundle.golden.zip(observed).firstNotNullOfOrNull { (case, found) ->
        failure(bundle, case, found)?.let { "${case.image}: $it" }
    }
    if (failure != null) return Check.Failed(failure)
    if (observed.size != bundle.golden.size) return Check.Failed("not every golden case was run")
    val pairs = bundle.golden.zip(observed)
    return Check.Passed(
        otherKernels = pairs.filter { (case, found) -> alike(case, found) && !same(case, found) }
            .map { it.first.image },
        otherDecoder = pairs.filterNot { (case, found) -> alike(case, found) }.map { it.first.image },
    )
}

private fun alike(case: GoldenCase, found: Observed) = case.decodedSha256 == found.decodedSha256

private fun same(case: GoldenCase, found: Observed) = case.output == found.output.toList()

private fun failure(bundle: Bundle, case: GoldenCase, found: Observed): String? {
    val (classes, decision) = bundle.classes to bundle.decision
    val recorded = case.output.toIntArray()
    val proven = words(verdict(recorded, classes, decision, bounded = false))
    if (proven != case.verdict || classes.labels[ranked(recorded).first()] != case.label) {
        return "its recorded output is not called \"${case.verdict}\" here"
    }
    if (!alike(case, found) && found.kind != Kind.JPEG) return "decoded to other pixels"
    if (alike(case, found)) {
        if (case.inputSha256 != found.inputSha256) return "resized to other bytes"
        if (same(case, found)) return null
        // Of other pixels no bound of the score is known, of other kernels it is.
        val off = Math.abs(score(found.output, classes) - score(recorded, classes))
        if (off > decision.kernelBound) {
            return "its score is $off from the proven one, over ${decision.kernelBound}"
        }
    }
    val here = verdict(found.output, classes, decision, bounded = true)
    val safe = here is Verdict.NotSure || words(here) == case.verdict
    return if (safe) null else "called \"${words(here)}\", not \"${case.verdict}\""
}

/** Runs the golden cases here and judges them. Never throws. */
fun selfCheck(bundle: Bundle, files: BundleFiles, engine: Engine, decoder: Decoder): Check = try {
    judge(bundle, bundle.golden.map { observe(bundle, it, files, engine, decoder) })
} catch (error: Throwable) { // also a native library that is not there
    Check.Failed("${error.javaClass.simpleName}: ${error.message}")
}

private fun observe(
    bundle: Bundle,
    case: GoldenCase,
    files: BundleFiles,
    engine: Engine,
    decoder: Decoder,
): Observed {
    val file = checkNotNull(files.open(case.image)) { "there is no ${case.image}" }.use { it.readBytes() }
    val photo = when (val found = inspect(file, bundle.input.maxPixels)) {
        is Container.Refused -> error("${case.image}: ${found.why}")
        is Container.Photo -> found
    }
    val (decoded, pixels) = decoder.decode(photo) { rows ->
        sized(rows, photo)
        decodedSha256(rows, photo.orientation) to input(bundle, rows, photo.orientation)
    }
    val output = outputs(engine, pixels, bundle.input.type, bundle.output, bundle.classes.labels.size)
    return Observed(photo.kind, decoded, sha256(pixels), output)
}
