package org.cocorrrec.demo

import android.app.Application

/** Holds the session for as long as the process lives, so that a rotation costs nothing. */
class DemoApplication : Application() {
    private var current: Session? = null

    /** The one session; the first call makes it. */
    val session: Session
        get() = current ?: Session(this).also { current = it }

    override fun onTerminate() {
        current?.close()
        current = null
        super.onTerminate()
    }
}
