package org.cocorrrec.recommending

/**
 * The clicks of one user by the app's own item ids, oldest first. Items that the model does not know are kept, for a
 * model that will, and left out of what the program gets.
 *
 * @param limit how many clicks are kept.
 */
class History(private val items: Items, private val limit: Int = 200) {
    private val clicked = ArrayDeque<String>()

    /** The clicks, oldest first. */
    val keys: List<String> get() = clicked.toList()

    val isEmpty: Boolean get() = known().isEmpty()

    fun add(key: String) {
        clicked.addLast(key)
        if (clicked.size > limit) clicked.removeFirst()
    }

    /** The last [length] known clicks, oldest first, padded with 0 on the right. */
    fun ids(length: Int): IntArray = known().takeLast(length).toIntArray().copyOf(length)

    private fun known(): List<Int> = clicked.mapNotNull(items::id)
}
