package mobileclf.classifier

/** What a photo is called. Only [Group] with `harmful` false and [Label] are answers to rely on. */
sealed interface Verdict {
    data class Group(val name: String, val harmful: Boolean) : Verdict
    data class Label(val name: String) : Verdict

    /** The model answered, and the answer is not sure enough. `why` is one of [Why]. */
    data class NotSure(val why: String) : Verdict

    /** There is no answer at all, and this is why. */
    data class NoVerdict(val why: String) : Verdict
}

/** Why the model is not sure. An app may look its own words up by these. */
object Why {
    const val DEMO = "demo model"
    const val CONFIDENCE = "not confident enough"
    const val KERNELS = "too close to the threshold for this phone"
}

/** The labels in the order of the outputs, the group of each, and the harmful group, if any. */
data class Classes(val labels: List<String>, val groups: List<String?>, val harmful: String?) {
    init {
        // Either every label has a group and one of several is harmful, or there are no groups.
        require(labels.isNotEmpty() && groups.size == labels.size) { "a group for every label" }
        if (harmful == null) {
            require(groups.all { it == null }) { "no groups where none is harmful" }
        } else {
            require(groups.all { !it.isNullOrEmpty() }) { "a group for every label" }
            require(harmful in groups && groups.distinct().size > 1) { "a harmful group among others" }
        }
    }

    /** Each group once, in order of first appearance among the labels. */
    val groupNames: List<String> get() = groups.filterNotNull().distinct()

    fun sum(outputs: IntArray, group: String): Int =
        groups.indices.sumOf { if (groups[it] == group) outputs[it] else 0 }
}

/** How sure "harmless" is: by the largest output, by its lead, or by the way to the threshold. */
enum class By(val word: String) { LARGEST("largest"), MARGIN("margin"), SCORE("score") }

/** A photo under the threshold is not sure where its sureness is less than `cut`, in quanta. */
data class Abstain(val by: By, val cut: Int)

/**
 * The rule of a bundle, in quanta: 256 of them are probability 1, so nothing rounds.
 *
 * kernelBound: how far the score may differ where other kernels than the proven ones run.
 */
data class Decision(
    val group: String?,
    val threshold: Int,
    val abstain: Abstain?,
    val kernelBound: Int,
    val demo: Boolean,
) {
    init {
        // A threshold of 0 calls everything harmful and is no decision.
        require(threshold >= 1) { "a threshold_q of at least 1" }
        require(kernelBound >= 0) { "a kernel_bound of at least 0" }
        if (abstain != null) {
            val most = if (abstain.by == By.SCORE) threshold else LARGEST
            require(group != null) { "no abstain rule without a harmful group" }
            require(abstain.cut in 1..most) { "a cut_q from 1 to $most" }
        }
    }

    /** Whether outputs of such classes can ever reach the threshold; else it warns of nothing. */
    fun fits(classes: Classes): Boolean {
        val summed = classes.groups.count { it == classes.harmful && it != null }.coerceAtLeast(1)
        return group == classes.harmful && threshold <= LARGEST * summed
    }
}

const val QUANTA = 256
const val LARGEST = 255 // of one output: a byte

/** What the threshold is compared with: the harmful group's sum, without groups the largest. */
fun score(outputs: IntArray, classes: Classes): Int =
    classes.harmful?.let { classes.sum(outputs, it) } ?: outputs.max()

/** Indices of the outputs, larger value first, then lower index. */
fun ranked(outputs: IntArray): List<Int> = outputs.indices.sortedByDescending { outputs[it] }

/**
 * What outputs are called, as `mobileclf predict` calls them.
 *
 * bounded: these outputs may differ from the proven ones by the kernel bound, so a score from which
 * that bound reaches the threshold decides nothing, and "harmless" has to be surer by that bound.
 */
fun verdict(outputs: IntArray, classes: Classes, decision: Decision, bounded: Boolean): Verdict {
    require(outputs.size == classes.labels.size) {
        "wanted ${classes.labels.size} outputs, found ${outputs.size}"
    }
    require(outputs.all { it in 0..LARGEST }) { "an output outside 0..$LARGEST" }
    require(decision.fits(classes)) { "a decision for other classes" }
    val score = score(outputs, classes)
    val slack = if (bounded) decision.kernelBound else 0
    val reached = score >= decision.threshold
    // The proven score lies in score - slack .. score + slack; where both answers lie in it, none.
    val open = (score + slack >= decision.threshold) != (score - slack >= decision.threshold)
    return if (open) Verdict.NotSure(Why.KERNELS) else plain(outputs, classes, decision, reached, slack)
}

private fun plain(
    outputs: IntArray,
    classes: Classes,
    decision: Decision,
    reached: Boolean,
    slack: Int,
): Verdict {
    val harmful = classes.harmful ?: return when {
        reached -> Verdict.Label(classes.labels[ranked(outputs).first()])
        else -> Verdict.NotSure(Why.CONFIDENCE)
    }
    if (reached) return Verdict.Group(harmful, harmful = true) // whatever else: no rule takes it back
    if (unsure(outputs, classes, decision, slack)) return Verdict.NotSure(Why.CONFIDENCE)
    if (decision.demo) return Verdict.NotSure(Why.DEMO)
    // maxBy takes the first of equals.
    val largest = (classes.groupNames - harmful).maxBy { classes.sum(outputs, it) }
    return Verdict.Group(largest, harmful = false)
}

private fun unsure(outputs: IntArray, classes: Classes, decision: Decision, slack: Int): Boolean {
    val rule = decision.abstain ?: return false
    val sureness = when (rule.by) {
        By.SCORE -> decision.threshold - score(outputs, classes)
        By.LARGEST -> outputs.max()
        By.MARGIN -> outputs.sortedDescending().let { it[0] - it.getOrElse(1) { 0 } }
    }
    return sureness - slack < rule.cut
}

/** A verdict in the words of golden cases. */
fun words(verdict: Verdict): String = when (verdict) {
    is Verdict.Group -> verdict.name
    is Verdict.Label -> verdict.name
    is Verdict.NotSure -> "not sure"
    is Verdict.NoVerdict -> "no verdict"
}
