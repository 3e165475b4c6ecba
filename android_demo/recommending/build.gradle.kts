plugins { kotlin("jvm") }

kotlin.compilerOptions {
    jvmTarget = org.jetbrains.kotlin.gradle.dsl.JvmTarget.JVM_1_8
    freeCompilerArgs.add("-Xjdk-release=8")
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

dependencies { compileOnly("org.json:json:20250517") } // Android has it
