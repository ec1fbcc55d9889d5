import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "mobileclf.demo"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "mobileclf.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "1"
        ndk {
            // The two whose answers were seen to be the bundle's. A build for 32 bits may add
            // armeabi-v7a: there the self-check alone tells.
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    compileOptions {
        val version = JavaVersion.toVersion(libs.versions.jvmTarget.get())
        sourceCompatibility = version
        targetCompatibility = version
    }

    androidResources {
        // A packed model could not be mapped into memory.
        noCompress += "tflite"
    }
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.fromTarget(libs.versions.jvmTarget.get())
    }
}

dependencies {
    implementation(project(":classifier"))
    implementation(libs.litert)
}
