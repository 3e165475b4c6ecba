package org.cocorrrec.recommending

import org.json.JSONObject

/**
 * The items of a model: the app's own ids, titles, and the program's ids, which are places in the list from 1.
 *
 * @property modelSha256 the weights that these ids belong to.
 */
class Items(val modelSha256: String, private val keys: List<String>, private val titles: List<String>) {
    private val ids: Map<String, Int> = keys.withIndex().associate { (place, key) -> key to place + 1 }

    val size: Int get() = keys.size

    /** The program's id of the app's item, or null for an item that the model does not know. */
    fun id(key: String): Int? = ids[key]

    fun key(id: Int): String = keys[id - 1]

    fun title(id: Int): String = titles[id - 1]

    companion object {
        /**
         * Reads `items.json` of a bundle.
         *
         * @param modelSha256 `model.sha256` of the manifest: items of another model would be other films.
         */
        fun parse(json: String, modelSha256: String): Items {
            val file = JSONObject(json)
            val actual = file.getString("model_sha256")
            require(actual == modelSha256) { "items of model ${actual.take(16)}, the program is of model ${modelSha256.take(16)}" }
            val rows = file.getJSONArray("items")
            val pairs = (0 until rows.length()).map(rows::getJSONArray)
            return Items(actual, pairs.map { it.getString(0) }, pairs.map { it.getString(1) })
        }
    }
}
