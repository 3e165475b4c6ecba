package org.cocorrrec.demo

import android.app.Activity
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.widget.BaseAdapter
import android.widget.EditText
import android.widget.ListView
import android.widget.Switch
import android.widget.TextView
import org.cocorrrec.recommending.Line
import org.cocorrrec.recommending.Screen

/** Shows the ten best films; every text is finished when it gets here. A tap on a film is a click. */
class MainActivity : Activity(), Session.View {
    private val session by lazy { (application as DemoApplication).session }
    private val films = FilmAdapter()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        findViewById<ListView>(R.id.films).apply {
            adapter = films
            setOnItemClickListener { _, _, place, _ -> session.click(films.getItem(place).key) }
        }
        val clicks = savedInstanceState?.getStringArrayList(CLICKS) ?: resources.getStringArray(R.array.first_clicks).toList()
        session.start(clicks, null)
    }

    /** After the views have their own state back, so that only a person's hand moves the switch. */
    override fun onPostCreate(savedInstanceState: Bundle?) {
        super.onPostCreate(savedInstanceState)
        val cloud = findViewById<Switch>(R.id.cloud)
        if (cloud.isChecked && session.screen == null) useCloud(true)
        cloud.setOnCheckedChangeListener { _, isOn -> useCloud(isOn) }
    }

    override fun onStart() {
        super.onStart()
        session.attach(this)
    }

    override fun onStop() {
        session.attach(null)
        super.onStop()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        session.screen?.let { state.putStringArrayList(CLICKS, ArrayList(it.history)) }
    }

    override fun show(screen: Screen) {
        text(R.id.clicks, screen.clicks)
        text(R.id.status, screen.status)
        text(R.id.latency, screen.latency)
        text(R.id.counts, screen.counts)
        films.show(screen.lines)
    }

    override fun showError(text: String) = text(R.id.status, text)

    private fun useCloud(isOn: Boolean) = session.useCloud(if (isOn) findViewById<EditText>(R.id.server).text.toString().trim() else null)

    private fun text(id: Int, text: String) {
        findViewById<TextView>(id).text = text
    }

    private inner class FilmAdapter : BaseAdapter() {
        private var lines = emptyList<Line>()

        fun show(lines: List<Line>) {
            this.lines = lines
            notifyDataSetChanged()
        }

        override fun getCount(): Int = lines.size

        override fun getItem(place: Int): Line = lines[place]

        override fun getItemId(place: Int): Long = place.toLong()

        override fun getView(place: Int, old: View?, parent: ViewGroup): View {
            val view = old ?: layoutInflater.inflate(R.layout.film, parent, false)
            val line = lines[place]
            view.findViewById<TextView>(R.id.title).text = line.title
            view.findViewById<TextView>(R.id.score).text = line.score
            return view
        }
    }

    private companion object {
        const val CLICKS = "clicks"
    }
}
