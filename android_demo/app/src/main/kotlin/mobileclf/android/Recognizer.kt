package mobileclf.android

import mobileclf.classifier.Bundle
import mobileclf.classifier.BundleError
import mobileclf.classifier.Check
import mobileclf.classifier.Classifier
import mobileclf.classifier.Decoder
import mobileclf.classifier.Engine
import mobileclf.classifier.readBundle
import mobileclf.classifier.selfCheck
import java.nio.ByteBuffer

/** What an app's bundle came to. */
sealed interface Recognizer {
    /** It can be asked; where `check` failed, it answers nothing but that. */
    class Ready(val bundle: Bundle, val check: Check, val classifier: Classifier) : Recognizer

    /** There is no model to ask, and this is why, for a log. error: what is wrong with the bundle. */
    class Broken(val why: String, val error: BundleError? = null) : Recognizer
}

/**
 * The bundle in `place`, verified, with its model loaded and checked here. Never throws.
 *
 * record: where a check is kept, by the bytes of bundle.json. again: check whatever is kept.
 */
fun recognizer(
    place: BundlePlace,
    decoder: Decoder,
    engine: (ByteBuffer) -> Engine,
    record: (ByteArray) -> CheckRecord,
    again: Boolean = false,
): Recognizer = try {
    when (val bundle = readBundle(place)) {
        is BundleError -> Recognizer.Broken(bundle.why, bundle)
        is Bundle -> {
            val model = engine(place.mapped(bundle.modelFile))
            val kept = record(checkNotNull(place.open("bundle.json")).use { it.readBytes() })
            val check = kept.read().takeUnless { again }
                ?: selfCheck(bundle, place, model, decoder).also { kept.write(it) }
            Recognizer.Ready(bundle, check, Classifier(bundle, model, check))
        }
    }
} catch (error: Throwable) { // no native library for this processor is an error, no exception
    Recognizer.Broken("${error.javaClass.simpleName}: ${error.message}")
}
