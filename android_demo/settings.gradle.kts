// For Android Studio; never run where this was written. Maven (pom.xml) builds the same source folders.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}

rootProject.name = "android_demo"
include("recommending", "scn-tflite", "scn-executorch", "app")
