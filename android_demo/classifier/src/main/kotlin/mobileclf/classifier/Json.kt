package mobileclf.classifier

/**
 * JSON, read strictly, for files that a hash or a proof stands behind.
 *
 * Own code and not org.json: Android's and the one on Maven Central are two programs that accept
 * different texts (both take unquoted names, one takes a name twice), and what the tests saw on a
 * JVM would not be what runs on the phone. Numbers keep their text, so nothing is rounded that is
 * only compared.
 */
sealed interface Json {
    data class Obj(val members: Map<String, Json>) : Json
    data class Arr(val items: List<Json>) : Json
    data class Text(val value: String) : Json
    data class Number(val text: String) : Json
    data class Bool(val value: Boolean) : Json
    data object Null : Json

    companion object {
        /** The one value in `data`, UTF-8. Throws [JsonError] for anything but strict JSON. */
        fun parse(data: ByteArray): Json = JsonReader(strictUtf8(data)).whole()
    }
}

/** What is no JSON, and where in the text. */
class JsonError(what: String, at: Int) : Exception("$what at character $at")

private fun strictUtf8(data: ByteArray): String = try {
    // A fresh decoder reports bad bytes; String(data, UTF_8) would replace them.
    Charsets.UTF_8.newDecoder().decode(java.nio.ByteBuffer.wrap(data)).toString()
} catch (_: java.nio.charset.CharacterCodingException) {
    throw JsonError("bytes that are not UTF-8", 0)
}

private const val DEEPEST = 64
private val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?")

private class JsonReader(private val text: String) {
    private var at = 0

    fun whole(): Json {
        val value = value(0)
        blank()
        if (at != text.length) fail("something after the end")
        return value
    }

    private fun value(depth: Int): Json {
        if (depth > DEEPEST) fail("more than $DEEPEST levels")
        blank()
        return when (peek()) {
            '{' -> members(depth)
            '[' -> items(depth)
            '"' -> Json.Text(string())
            't' -> word("true", Json.Bool(true))
            'f' -> word("false", Json.Bool(false))
            'n' -> word("null", Json.Null)
            else -> number()
        }
    }

    private fun members(depth: Int): Json {
        val found = LinkedHashMap<String, Json>()
        at++
        blank()
        if (taken('}')) return Json.Obj(found)
        do {
            blank()
            val name = string()
            blank()
            wanted(':')
            if (name in found) fail("the name \"$name\" twice")
            found[name] = value(depth + 1)
            blank()
        } while (taken(','))
        wanted('}')
        return Json.Obj(found)
    }

    private fun items(depth: Int): Json {
        val found = ArrayList<Json>()
        at++
        blank()
        if (taken(']')) return Json.Arr(found)
        do {
            found += value(depth + 1)
            blank()
        } while (taken(','))
        wanted(']')
        return Json.Arr(found)
    }

    private fun string(): String {
        wanted('"')
        val found = StringBuilder()
        while (true) {
            val char = peek()
            at++
            when {
                char == '"' -> return found.toString()
                char == '\\' -> found.append(escaped())
                char < ' ' -> fail("a control character in a text")
                else -> found.append(char)
            }
        }
    }

    private fun escaped(): Char {
        val char = peek()
        at++
        return when (char) {
            '"', '\\', '/' -> char
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                if (digits.length < 4 || digits.any { Character.digit(it, 16) < 0 || it > 'f' }) {
                    fail("wanted four hexadecimal digits")
                }
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("an unknown escape")
        }
    }

    private fun number(): Json {
        val found = NUMBER.find(text, at)
        if (found == null || found.range.first != at) fail("no value")
        at = found.range.last + 1
        return Json.Number(found.value)
    }

    private fun word(word: String, value: Json): Json {
        if (!text.startsWith(word, at)) fail("no value")
        at += word.length
        return value
    }

    private fun blank() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the text ends")

    private fun taken(char: Char): Boolean {
        val there = at < text.length && text[at] == char
        if (there) at++
        return there
    }

    private fun wanted(char: Char) {
        if (!taken(char)) fail("wanted $char")
    }

    private fun fail(what: String): Nothing = throw JsonError(what, at)
}
