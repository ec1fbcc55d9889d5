// Both plugins are loaded here, so that the Kotlin built into the Android plugin is this one too.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
