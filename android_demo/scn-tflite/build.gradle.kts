plugins { id("com.android.library") }

android {
    namespace = "org.cocorrrec.tflite"
    compileSdk = 34
    defaultConfig { minSdk = 26 }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    api(project(":recommending"))
    api("com.google.ai.edge.litert:litert:1.4.0")
}
