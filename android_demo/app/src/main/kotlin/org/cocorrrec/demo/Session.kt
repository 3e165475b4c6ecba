package org.cocorrrec.demo

import android.content.Context
import android.content.res.AssetManager
import android.os.Handler
import android.os.Looper
import java.util.concurrent.Executor
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import org.cocorrrec.model.ScnModel
import org.cocorrrec.recommending.Contract
import org.cocorrrec.recommending.GcnClient
import org.cocorrrec.recommending.Items
import org.cocorrrec.recommending.ProgramFile
import org.cocorrrec.recommending.Recommender
import org.cocorrrec.recommending.Scn
import org.cocorrrec.recommending.Screen
import org.cocorrrec.tflite.TfliteProgram
import org.json.JSONObject

/** The model and its threads: one that runs the program, some that wait for the network. */
class Session(private val context: Context) {
    private val model: ExecutorService = Executors.newSingleThreadExecutor()
    private val network: ExecutorService = Executors.newCachedThreadPool()
    private val main = Handler(Looper.getMainLooper())

    // Of the model's thread.
    private var scn: Scn? = null
    private var recommender: Recommender? = null

    // Of the main thread.
    private var isStarted = false
    private var view: View? = null

    /** What was shown last. */
    var screen: Screen? = null
        private set

    interface View {
        fun show(screen: Screen)

        fun showError(text: String)
    }

    /** The activity that is to be seen; null when there is none. */
    fun attach(view: View?) {
        this.view = view
        screen?.let { view?.show(it) }
    }

    /** Loads the model and ranks, once in the life of the process. */
    fun start(clicks: List<String>, server: String?) {
        if (isStarted) return
        isStarted = true
        onModel { load().also { recommender = it }.start(clicks, server) }
    }

    fun click(key: String) = onModel { recommender?.click(key) }

    /** @param server null to rank alone. */
    fun useCloud(server: String?) = onModel { recommender?.useCloud(server) }

    fun close() {
        onModel { scn?.close() }
        model.shutdown()
        network.shutdownNow()
    }

    private fun load(): Recommender {
        val manifest = context.assets.text(ScnModel.MANIFEST)
        val contract = Contract.parse(manifest, ScnModel.VOCAB_SIZE)
        val items = Items.parse(context.assets.text(ScnModel.ITEMS), JSONObject(manifest).getJSONObject("model").getString("sha256"))
        val file = ProgramFile.install(ScnModel.PROGRAM_FILE, manifest, context.noBackupFilesDir) { context.assets.open(ScnModel.PROGRAM) }
        val scn = Scn(TfliteProgram(file), contract).also { scn = it }
        return Recommender(
            scn = scn,
            items = items,
            candidates = spread(CANDIDATES, items.size),
            connect = { GcnClient(it, contract.version) },
            network = network,
            model = Executor(::onModel),
            show = { screen -> main.post { show(screen) } },
        )
    }

    /** Ids from the whole catalogue: where an app would take its list from another stage. */
    private fun spread(count: Int, size: Int) = IntArray(minOf(count, size)) { 1 + it * size / minOf(count, size) }

    private fun show(screen: Screen) {
        this.screen = screen
        view?.show(screen)
    }

    private fun onModel(task: Runnable) = model.execute {
        try {
            task.run()
        } catch (error: Exception) {
            main.post { view?.showError("${error.javaClass.simpleName}: ${error.message}") }
        }
    }

    private fun AssetManager.text(name: String): String = open(name).use { String(it.readBytes()) }

    private companion object {
        const val CANDIDATES = 100
    }
}
