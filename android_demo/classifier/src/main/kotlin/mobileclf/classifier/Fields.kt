package mobileclf.classifier

/** The members of a JSON object, each of the type that the schema says, or a [Refusal]. */
internal class Fields(private val own: Json.Obj, private val path: String) {
    val names: Set<String> get() = own.members.keys

    fun text(key: String): String = (get(key) as? Json.Text)?.value ?: bad(key, "a text")

    fun textOrNull(key: String): String? = if (get(key) == Json.Null) null else text(key)

    fun flag(key: String): Boolean = (get(key) as? Json.Bool)?.value ?: bad(key, "true or false")

    fun real(key: String): Double = (get(key) as? Json.Number)?.text?.toDouble() ?: bad(key, "a number")

    fun whole(key: String, among: ClosedRange<Long>): Long = whole(key, get(key), among)

    fun wholes(key: String, among: ClosedRange<Long>): List<Int> =
        items(key).map { whole(key, it, among).toInt() }

    fun obj(key: String): Fields = (get(key) as? Json.Obj)?.let { Fields(it, "$path$key.") }
        ?: bad(key, "an object")

    fun objOrNull(key: String): Fields? = if (get(key) == Json.Null) null else obj(key)

    fun list(key: String): List<Fields> = items(key).mapIndexed { i, item ->
        (item as? Json.Obj)?.let { Fields(it, "$path$key[$i].") } ?: bad("$key[$i]", "an object")
    }

    fun exactly(key: String, wanted: Json) {
        if (get(key) != wanted) bad(key, shown(wanted))
    }

    fun type(key: String): Type =
        Type.entries.find { it.word == text(key) } ?: bad(key, Type.entries.joinToString { it.word })

    fun hash(key: String): String =
        text(key).takeIf { HASH.matches(it) } ?: bad(key, "64 hexadecimal digits")

    fun file(key: String): String = checkedName(text(key), this)

    /** `key`_q, in quanta, beside which `key` is the same as a probability. */
    fun quanta(key: String): Int {
        val found = whole("${key}_q", 0L..Int.MAX_VALUE / 2).toInt()
        if (real(key) != found.toDouble() / QUANTA) bad(key, "${key}_q / $QUANTA")
        return found
    }

    /** What `make` requires is wanted of `key`. */
    fun <T> checked(key: String, make: () -> T): T = try {
        make()
    } catch (error: IllegalArgumentException) {
        bad(key, error.message.orEmpty())
    }

    fun bad(key: String, wanted: String, found: String = shown(own.members[key])): Nothing =
        throw Refusal(BundleError.BadValue((path + key).trimEnd('.'), wanted, found))

    private fun get(key: String): Json = own.members[key] ?: bad(key, "this key", "none")

    private fun items(key: String): List<Json> = (get(key) as? Json.Arr)?.items ?: bad(key, "a list")

    private fun whole(key: String, value: Json, among: ClosedRange<Long>): Long =
        (value as? Json.Number)?.text?.toLongOrNull()?.takeIf { it in among }
            ?: bad(key, "a whole number from ${among.start} to ${among.endInclusive}", shown(value))
}

private val HASH = Regex("[0-9a-f]{64}")

/** A name that leads out of the bundle is not part of it. */
internal fun checkedName(name: String, fields: Fields): String {
    val parts = name.split("/")
    val inside = parts.all { it.isNotEmpty() && it != "." && it != ".." } && '\\' !in name
    return if (inside) name else fields.bad(name, "a name inside the bundle", name)
}

/** A value for a message, cut short. */
internal fun shown(value: Json?): String = when (value) {
    null -> "none"
    is Json.Null -> "null"
    is Json.Text -> "\"${value.value.take(60)}\""
    is Json.Number -> value.text.take(60)
    is Json.Bool -> "${value.value}"
    is Json.Arr -> "a list of ${value.items.size}"
    is Json.Obj -> "an object"
}
