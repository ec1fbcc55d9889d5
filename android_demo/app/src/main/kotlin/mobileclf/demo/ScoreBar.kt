package mobileclf.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import mobileclf.classifier.QUANTA

/** The score as a bar, and a mark where the threshold is. What it shows stands beneath it in words. */
class ScoreBar(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private var score = 0f
    private var threshold = 0f
    private var filled = 0

    /** filled: the colour of the bar. */
    fun show(score: Int, threshold: Int, filled: Int) {
        // A sum of rounded outputs may be a little over 1.
        this.score = score.toFloat().coerceAtMost(QUANTA.toFloat()) / QUANTA
        this.threshold = threshold.toFloat().coerceAtMost(QUANTA.toFloat()) / QUANTA
        this.filled = filled
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        if (layoutDirection == LAYOUT_DIRECTION_RTL) canvas.scale(-1f, 1f, width / 2f, height / 2f)
        val (top, bottom) = height * 0.3f to height * 0.7f
        val round = (bottom - top) / 2
        paint.color = context.getColor(R.color.line)
        canvas.drawRoundRect(0f, top, width.toFloat(), bottom, round, round, paint)
        if (score > 0) {
            paint.color = filled
            canvas.drawRoundRect(0f, top, maxOf(width * score, 2 * round), bottom, round, round, paint)
        }
        val mark = resources.displayMetrics.density * 3
        val at = (width * threshold).coerceIn(mark / 2, width - mark / 2)
        paint.color = context.getColor(R.color.ink)
        canvas.drawRect(at - mark / 2, 0f, at + mark / 2, height.toFloat(), paint)
    }
}
