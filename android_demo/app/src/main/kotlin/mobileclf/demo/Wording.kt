package mobileclf.demo

import android.content.res.Resources
import mobileclf.android.Recognizer
import mobileclf.classifier.Answer
import mobileclf.classifier.Bundle
import mobileclf.classifier.BundleError
import mobileclf.classifier.Check
import mobileclf.classifier.Nearest
import mobileclf.classifier.QUANTA
import mobileclf.classifier.Verdict
import mobileclf.classifier.Why
import java.text.NumberFormat

/** How a verdict looks: never by its colour alone. */
enum class Tone(val ground: Int, val ink: Int, val icon: Int) {
    HARMFUL(R.color.harmful, R.color.on_harmful, R.drawable.ic_harmful),
    HARMLESS(R.color.harmless, R.color.on_harmless, R.drawable.ic_harmless),
    LABEL(R.color.label, R.color.on_label, R.drawable.ic_label),
    UNSURE(R.color.unsure, R.color.on_unsure, R.drawable.ic_unsure),
    NONE(R.color.none, R.color.on_none, R.drawable.ic_none),
    ;

    /** The colour of a bar on the screen's own ground, where yellow would not be seen. */
    val bar: Int get() = if (this == UNSURE) R.color.faint else ground
}

/** A verdict in words. advice: what to do, where there is something to do. */
data class Said(val tone: Tone, val verdict: String, val detail: String, val advice: String = "")

fun said(scene: Scene, ready: Recognizer.Ready?, text: Resources): Said? = when (scene) {
    is Scene.Answered -> said(scene.answer.verdict, ready, text)
    is Scene.NotRead -> none(text, text.getString(scene.why.text), R.string.do_photo)
    is Scene.NoModel -> none(
        text,
        text.getString(R.string.none_model) + "\n" + broken(scene.model, text),
        R.string.do_model,
    )
    Scene.Empty, Scene.LoadingModel, Scene.LookingAtPhoto -> null
}

private fun said(verdict: Verdict, ready: Recognizer.Ready?, text: Resources): Said = when (verdict) {
    is Verdict.Group ->
        if (verdict.harmful) {
            Said(
                Tone.HARMFUL,
                text.getString(R.string.verdict_harmful, plain(verdict.name)),
                text.getString(R.string.detail_harmful),
            )
        } else {
            Said(
                Tone.HARMLESS,
                text.getString(R.string.verdict_harmless, plain(verdict.name)),
                text.getString(R.string.detail_harmless),
            )
        }
    is Verdict.Label -> Said(Tone.LABEL, plain(verdict.name), text.getString(R.string.detail_label))
    is Verdict.NotSure -> Said(
        Tone.UNSURE,
        text.getString(R.string.verdict_not_sure),
        unsure(verdict.why, text),
        advice(verdict.why, ready, text),
    )
    is Verdict.NoVerdict -> {
        val ofModel = ready?.check is Check.Failed
        val what = text.getString(if (ofModel) R.string.none_check else R.string.none_photo)
        none(
            text,
            what + "\n" + text.getString(R.string.reason, verdict.why),
            if (ofModel) R.string.do_check else R.string.do_photo,
        )
    }
}

private fun none(text: Resources, detail: String, advice: Int) =
    Said(Tone.NONE, text.getString(R.string.verdict_none), detail, text.getString(advice))

/** What is wrong with the bundle, in a person's words; those for a log are on the other screen. */
private fun broken(model: Recognizer.Broken, text: Resources): String = when (val error = model.error) {
    is BundleError.Missing -> text.getString(R.string.broken_missing, error.file)
    is BundleError.WrongHash -> text.getString(R.string.broken_changed, error.file)
    is BundleError.LfsPointer -> text.getString(R.string.broken_pointer, error.file)
    is BundleError.UnknownSchema -> text.getString(R.string.broken_schema)
    is BundleError.Differs -> text.getString(R.string.broken_differs)
    is BundleError.NotJson, is BundleError.BadValue -> text.getString(R.string.broken_record)
    is BundleError.Unreadable, null -> text.getString(R.string.broken_other)
}

private fun advice(why: String, ready: Recognizer.Ready?, text: Resources): String {
    if (why == Why.DEMO) return text.getString(R.string.do_demo)
    val another = text.getString(R.string.do_another)
    // Where nothing is harmful, there is nothing to be careful of.
    return if (ready?.bundle?.classes?.harmful == null) another else "$another ${text.getString(R.string.do_until)}"
}

private fun unsure(why: String, text: Resources): String = when (why) {
    Why.CONFIDENCE -> text.getString(R.string.unsure_confidence)
    Why.KERNELS -> text.getString(R.string.unsure_kernels)
    Why.DEMO -> text.getString(R.string.unsure_demo)
    else -> text.getString(R.string.unsure_other, why)
}

/** Names come from folders, where an underscore stands for a blank. */
fun plain(name: String): String = name.replace('_', ' ')

/** As the threshold has it: a step of 1/256 is 0.4 %, so one decimal never hides which side it is. */
fun percent(quanta: Int, text: Resources): String = percent(quanta.toDouble() / QUANTA, text)

fun percent(share: Double, text: Resources): String {
    val format = NumberFormat.getPercentInstance(text.configuration.locales[0])
    format.minimumFractionDigits = 1
    format.maximumFractionDigits = 1
    return format.format(share)
}

/** The score in the words of the rule that it is held against. */
fun score(answer: Answer, bundle: Bundle, text: Resources): String {
    val (found, wanted) = percent(answer.score, text) to percent(answer.threshold, text)
    val group = bundle.classes.harmful ?: return text.getString(R.string.score_largest, found, wanted)
    return text.getString(R.string.score_group, plain(group), found, wanted)
}

/** A class with its group, unless that is its own name. */
fun named(nearest: Nearest, text: Resources): String {
    val (label, group) = plain(nearest.label) to nearest.group?.let { plain(it) }
    return if (group == null || group == label) label else text.getString(R.string.nearest_of_group, label, group)
}
