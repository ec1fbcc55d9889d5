package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import org.junit.jupiter.api.Test

class JsonTest {
    @Test
    fun `reads every kind of value`() {
        val text = " {\"a\": [1, -0.5e3, true, false, null], \"b\\u00e4\": {\"c\": \"\\\"\\n\u00fc\"}} "
        val wanted = Json.Obj(
            mapOf(
                "a" to Json.Arr(
                    listOf(
                        Json.Number("1"), Json.Number("-0.5e3"), Json.Bool(true), Json.Bool(false), Json.Null,
                    ),
                ),
                "b\u00e4" to Json.Obj(mapOf("c" to Json.Text("\"\n\u00fc"))),
            ),
        )
        assertEquals(wanted, Json.parse(text.toByteArray()))
    }

    @ParameterizedTest
    @ValueSource(
        strings = [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{a:1}", "['a']", "01", "+1", ".5", "1.", "NaN",
            "Infinity", "-", "1 2", "[1]]", "\"\t\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a", "tru", "nulls",
            "\uFEFF{}", "// a\n1", "{\"a\" 1}", "[1 2]",
        ],
    )
    fun `refuses what is not strict`(text: String) {
        assertThrows<JsonError> { Json.parse(text.toByteArray()) }
    }

    @Test
    fun `refuses bytes that are not UTF-8, and nests without end`() {
        assertThrows<JsonError> { Json.parse(byteArrayOf('"'.code.toByte(), -1, '"'.code.toByte())) }
        assertThrows<JsonError> { Json.parse("[".repeat(100_000).toByteArray()) }
    }
}
