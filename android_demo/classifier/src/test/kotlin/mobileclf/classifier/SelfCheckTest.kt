package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class SelfCheckTest {
    private val made = madeBundle()
    private val bundle = read(made)
    private val first = bundle.golden[0]

    private fun seen(
        case: GoldenCase,
        kind: Kind = Kind.PNG,
        decoded: String = case.decodedSha256,
        input: String = case.inputSha256,
        output: List<Int> = case.output,
    ) = Observed(kind, decoded, input, output.toIntArray())

    /** All cases as they should be, but for the first. */
    private fun check(odd: Observed) = judge(bundle, listOf(odd) + bundle.golden.drop(1).map { seen(it) })

    private fun failed(odd: Observed) = assertTrue(check(odd) is Check.Failed, "${check(odd)}")

    @Test
    fun `the same to the byte is good`() {
        assertEquals(Check.Passed(emptyList(), emptyList()), check(seen(first)))
        assertEquals(Check.Passed(emptyList(), emptyList()), selfCheck(bundle, made, summing(4), PlainPng))
    }

    @Test
    fun `other kernels within the bound are said, over it they fail`() {
        val near = first.output.toMutableList().also { it[0] = off(it[0], 3) }
        val found = check(seen(first, output = near))
        assertEquals(Check.Passed(listOf("golden/0.png"), emptyList()), found)
        assertTrue((found as Check.Passed).bounded)
        failed(seen(first, output = first.output.toMutableList().also { it[0] = off(it[0], 4) }))
    }

    private fun off(value: Int, by: Int) = if (value >= by) value - by else value + by

    @Test
    fun `another decoder is borne for JPEG only`() {
        val other = "0".repeat(64)
        assertEquals(
            Check.Passed(emptyList(), listOf("golden/0.png")),
            check(seen(first, Kind.JPEG, decoded = other, input = other)),
        )
        failed(seen(first, Kind.PNG, decoded = other, input = other))
        val wrong = if (first.verdict == "bad") listOf(0, 0, 255, 0) else listOf(255, 255, 0, 0)
        failed(seen(first, Kind.JPEG, decoded = other, input = other, output = wrong))
    }

    @Test
    fun `another resize, other labels, too few cases fail`() {
        failed(seen(first, input = "0".repeat(64)))
        assertTrue(judge(bundle, bundle.golden.drop(1).map { seen(it) }) is Check.Failed)
        assertTrue(judge(bundle, bundle.golden.dropLast(1).map { seen(it) }) is Check.Failed)
        val swapped = made.replaced("bundle.json", "\"label\":\"${first.label}\",", "\"label\":\"${other()}\",")
        // Labels beside groups are vouched for by the model; in the cases only the self-check sees it.
        assertTrue(readBundle(swapped) is BundleError.Differs)
        val verdict = made.replaced("bundle.json", "\"verdict\":\"bad\"", "\"verdict\":\"good\"")
        assertTrue(selfCheck(read(verdict), verdict, summing(4), PlainPng) is Check.Failed)
    }

    private fun other() = if (first.label == "fly") "cep" else "fly"
}
