package mobileclf.demo

import android.annotation.TargetApi
import android.os.Build
import android.view.View
import android.view.WindowInsets

/** Keeps what is in `view` clear of the bars and the camera's hole, which it is drawn under. */
fun keepClear(view: View) {
    view.setOnApplyWindowInsetsListener { padded, insets ->
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) From30.pad(padded, insets) else pad(padded, insets)
        insets
    }
}

@Suppress("DEPRECATION") // all there is before API 30
private fun pad(view: View, insets: WindowInsets) = insets.run {
    view.setPadding(
        systemWindowInsetLeft,
        systemWindowInsetTop,
        systemWindowInsetRight,
        systemWindowInsetBottom,
    )
}

@TargetApi(Build.VERSION_CODES.R)
private object From30 {
    fun pad(view: View, insets: WindowInsets) {
        val kinds = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout()
        insets.getInsets(kinds).run { view.setPadding(left, top, right, bottom) }
    }
}
