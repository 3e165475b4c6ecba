plugins { id("com.android.library") }

android {
    namespace = "org.cocorrrec.executorch"
    compileSdk = 34
    defaultConfig { minSdk = 26 }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies {
    api(project(":recommending"))
    api("org.pytorch:executorch-android:1.5.1")
}
