plugins {
    id("com.android.library") version "9.2.1" apply false
    id("com.android.application") version "9.2.1" apply false
    kotlin("jvm") version "2.4.21" apply false
}
