plugins { id("com.android.application") }

val bundle = rootDir.resolve("target/demo/bundle/src/main") // cocorr-export bundle android; see README.md

android {
    namespace = "org.cocorrrec.demo"
    compileSdk = 34
    defaultConfig {
        applicationId = "org.cocorrrec.demo"
        minSdk = 26
        targetSdk = 34
        versionCode = 1
        versionName = "0.1"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    sourceSets["main"].assets.srcDir(bundle.resolve("assets"))
    sourceSets["main"].kotlin.srcDir(bundle.resolve("kotlin/org/cocorrrec/model"))
    androidResources { noCompress += "tflite" }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

dependencies { implementation(project(":scn-tflite")) }
