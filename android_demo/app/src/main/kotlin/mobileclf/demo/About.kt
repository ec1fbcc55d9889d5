package mobileclf.demo

import android.content.res.Resources
import mobileclf.android.Recognizer
import mobileclf.classifier.Bundle
import mobileclf.classifier.Check
import mobileclf.classifier.Json
import java.text.NumberFormat

/** A part of the screen that tells what the model is. */
data class Section(val title: Int, val text: String)

fun about(recognizer: Recognizer?, text: Resources): List<Section> = when (recognizer) {
    null -> emptyList()
    is Recognizer.Broken -> listOf(
        Section(
            R.string.about_model,
            text.getString(R.string.none_model) + "\n" + text.getString(R.string.reason, recognizer.why),
        ),
    )
    is Recognizer.Ready -> listOf(
        Section(R.string.about_check, checked(recognizer.check, text)),
        Section(R.string.about_limits, recognizer.bundle.limits + "\n\n" + text.getString(R.string.warning)),
        Section(R.string.about_measured, measured(recognizer.bundle, text)),
        Section(R.string.about_model, model(recognizer.bundle, text)),
    )
}

private fun checked(check: Check, text: Resources): String = when (check) {
    is Check.Failed -> text.getString(R.string.check_failed, check.why)
    is Check.Passed -> lines(
        text.getString(if (check.bounded) R.string.check_bounded else R.string.check_passed),
        check.otherKernels.joined()?.let { text.getString(R.string.check_kernels, it) },
        check.otherDecoder.joined()?.let { text.getString(R.string.check_decoder, it) },
    )
}

private fun List<String>.joined() = takeIf { it.isNotEmpty() }?.joinToString()

private fun lines(vararg parts: String?) = parts.filterNotNull().joinToString("\n")

private fun model(bundle: Bundle, text: Resources): String {
    val from = percent(bundle.decision.threshold, text)
    val group = bundle.classes.harmful
    return lines(
        text.getString(R.string.about_name, bundle.name),
        text.getString(if (bundle.decision.demo) R.string.about_demo else R.string.about_real),
        text.getString(R.string.about_classes, bundle.classes.labels.joinToString { plain(it) }),
        if (group == null) {
            text.getString(R.string.about_rule_label, from)
        } else {
            text.getString(R.string.about_rule_group, plain(group), from)
        },
        text.getString(R.string.about_hash, bundle.modelSha256),
    )
}

/** Metrics are for people alone: what is not there, or otherwise, is left out. */
private fun measured(bundle: Bundle, text: Resources): String {
    val metrics = bundle.record.member("metrics")
    val photos = metrics.member("n").number() ?: return text.getString(R.string.measured_nothing)
    val split = (metrics.member("split") as? Json.Text)?.value.orEmpty()
    val small = metrics.member("int8").member("accuracy").number()
    val large = metrics.member("float").member("accuracy").number()
    val count = NumberFormat.getIntegerInstance(text.configuration.locales[0]).format(photos)
    return lines(
        text.getString(R.string.measured_on, count, split),
        if (small == null || large == null) {
            null
        } else {
            text.getString(R.string.measured_accuracy, percent(small, text), percent(large, text))
        },
        metrics.member("agreement").number()
            ?.let { text.getString(R.string.measured_agreement, percent(it, text)) },
    )
}

private fun Json?.member(key: String): Json? = (this as? Json.Obj)?.members?.get(key)

private fun Json?.number(): Double? = (this as? Json.Number)?.text?.toDouble()
