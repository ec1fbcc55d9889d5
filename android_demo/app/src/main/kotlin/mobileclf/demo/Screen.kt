package mobileclf.demo

import android.app.Activity
import android.content.res.ColorStateList
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.TextView
import mobileclf.android.Recognizer
import mobileclf.classifier.Answer
import mobileclf.classifier.Bundle

/** The views of the activity, and how a desk looks on them. */
class Screen(private val activity: Activity) {
    private val text = activity.resources

    private fun <T : View> view(id: Int): T = activity.findViewById(id)

    fun render(desk: Desk) {
        val ready = desk.recognizer as? Recognizer.Ready
        val scene = desk.scene
        view<View>(R.id.demo_banner).shown(ready?.bundle?.decision?.demo == true)
        view<View>(R.id.hint).shown(scene == Scene.Empty)
        working(scene)
        picture(scene)
        verdict(said(scene, ready, text))
        val answer = (scene as? Scene.Answered)?.answer?.takeIf { it.nearest.isNotEmpty() }
        view<View>(R.id.figures).shown(answer != null && ready != null)
        if (answer != null && ready != null) figures(answer, ready.bundle, said(scene, ready, text))
        about(desk.recognizer, scene)
    }

    private fun working(scene: Scene) {
        val words = when (scene) {
            Scene.LoadingModel -> R.string.working_model
            Scene.LookingAtPhoto -> R.string.working_photo
            else -> null
        }
        view<View>(R.id.working).shown(words != null)
        view<TextView>(R.id.working_text).text = words?.let { text.getString(it) }.orEmpty()
    }

    private fun picture(scene: Scene) {
        val bitmap = (scene as? Scene.Answered)?.picture
        view<ImageView>(R.id.photo).apply {
            shown(bitmap != null)
            setImageBitmap(bitmap)
        }
    }

    private fun verdict(said: Said?) {
        view<View>(R.id.answer).shown(said != null)
        if (said == null) return
        val ink = activity.getColor(said.tone.ink)
        view<View>(R.id.verdict_card).backgroundTintList =
            ColorStateList.valueOf(activity.getColor(said.tone.ground))
        view<ImageView>(R.id.verdict_icon).apply {
            setImageResource(said.tone.icon)
            imageTintList = ColorStateList.valueOf(ink)
        }
        words(R.id.verdict, said.verdict).setTextColor(ink)
        words(R.id.detail, said.detail).setTextColor(ink)
        words(R.id.advice, said.advice)
    }

    private fun words(id: Int, words: String): TextView = view<TextView>(id).apply {
        shown(words.isNotEmpty())
        text = words
    }

    private fun figures(answer: Answer, bundle: Bundle, said: Said?) {
        val filled = activity.getColor(said?.tone?.bar ?: R.color.accent)
        view<ScoreBar>(R.id.score_bar).show(answer.score, answer.threshold, filled)
        words(R.id.score, score(answer, bundle, text))
        view<View>(R.id.bounded).shown(answer.bounded)
        val list = view<LinearLayout>(R.id.nearest)
        list.removeAllViews()
        for (nearest in answer.nearest) {
            val row = inflated(R.layout.nearest, list)
            val (name, share) = named(nearest, text) to percent(nearest.quanta, text)
            row.findViewById<TextView>(R.id.nearest_name).text = name
            row.findViewById<TextView>(R.id.nearest_share).text = share
            // Read out as one line, and not as a column of names and one of figures.
            row.contentDescription = text.getString(R.string.nearest_spoken, name, share)
            list.addView(row)
        }
    }

    private fun about(recognizer: Recognizer?, scene: Scene) {
        val list = view<LinearLayout>(R.id.about_sections)
        list.removeAllViews()
        val sections = if (scene == Scene.LoadingModel) emptyList() else about(recognizer, text)
        for (section in sections) {
            val row = inflated(R.layout.section, list)
            row.findViewById<TextView>(R.id.section_title).setText(section.title)
            row.findViewById<TextView>(R.id.section_text).text = section.text
            list.addView(row)
        }
        view<View>(R.id.check_again).isEnabled = scene != Scene.LoadingModel
    }

    private fun inflated(layout: Int, into: ViewGroup): View =
        LayoutInflater.from(activity).inflate(layout, into, false)

    private fun View.shown(yes: Boolean) {
        visibility = if (yes) View.VISIBLE else View.GONE
    }
}
