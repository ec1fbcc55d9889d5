package mobileclf.classifier

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

private val GROUPED = Classes(listOf("a", "b", "c", "d"), listOf("bad", "good", "bad", "fair"), "bad")
private val PLAIN = Classes(listOf("a", "b", "c"), listOf(null, null, null), null)
private val RULE = Decision("bad", 100, null, 3, demo = false)

class DecisionTest {
    private fun of(vararg outputs: Int, rule: Decision = RULE, bounded: Boolean = false) =
        verdict(outputs, GROUPED, rule, bounded)

    @Test
    fun `harmful where the sum reaches the threshold, and not one step under it`() {
        assertEquals(Verdict.Group("bad", true), of(60, 110, 40, 46))
        assertEquals(Verdict.Group("good", false), of(60, 110, 39, 46))
        assertEquals(Verdict.Group("bad", true), of(255, 0, 255, 0)) // over a byte
    }

    @Test
    fun `the largest harmless group, of equals the first among the labels`() {
        assertEquals(Verdict.Group("good", false), of(10, 80, 0, 80))
        assertEquals(Verdict.Group("fair", false), of(10, 80, 0, 81))
    }

    @Test
    fun `a demo is never harmless`() {
        val demo = RULE.copy(demo = true)
        assertEquals(Verdict.NotSure("demo model"), of(0, 255, 0, 0, rule = demo))
        assertEquals(Verdict.Group("bad", true), of(255, 0, 0, 0, rule = demo))
    }

    @Test
    fun `not sure under the cut, by each measure, and never in place of a warning`() {
        fun by(by: By, cut: Int) = RULE.copy(abstain = Abstain(by, cut))
        assertEquals(Verdict.NotSure(Why.CONFIDENCE), of(0, 149, 0, 90, rule = by(By.LARGEST, 150)))
        assertEquals(Verdict.Group("good", false), of(0, 150, 0, 90, rule = by(By.LARGEST, 150)))
        assertEquals(Verdict.NotSure(Why.CONFIDENCE), of(0, 149, 0, 90, rule = by(By.MARGIN, 60)))
        assertEquals(Verdict.Group("good", false), of(0, 150, 0, 90, rule = by(By.MARGIN, 60)))
        assertEquals(Verdict.NotSure(Why.CONFIDENCE), of(41, 200, 40, 0, rule = by(By.SCORE, 20)))
        assertEquals(Verdict.Group("good", false), of(40, 200, 40, 0, rule = by(By.SCORE, 20)))
        assertEquals(Verdict.Group("bad", true), of(50, 0, 50, 0, rule = by(By.LARGEST, 255)))
    }

    @Test
    fun `on other kernels what lies within the bound decides nothing, on both sides`() {
        fun near(sum: Int) = of(sum, 200, 0, 0, bounded = true)
        assertEquals(Verdict.Group("good", false), near(96))
        for (sum in 97..102) assertEquals(Verdict.NotSure(Why.KERNELS), near(sum), "$sum")
        assertEquals(Verdict.Group("bad", true), near(103))
        assertEquals(Verdict.Group("bad", true), of(100, 0, 0, 0, rule = RULE.copy(kernelBound = 0), bounded = true))
    }

    @Test
    fun `on other kernels harmless has to be surer by the bound`() {
        val rule = RULE.copy(abstain = Abstain(By.LARGEST, 150))
        assertEquals(Verdict.NotSure(Why.CONFIDENCE), of(0, 152, 0, 0, rule = rule, bounded = true))
        assertEquals(Verdict.Group("good", false), of(0, 153, 0, 0, rule = rule, bounded = true))
        assertEquals(Verdict.Group("good", false), of(0, 152, 0, 0, rule = rule))
    }

    @Test
    fun `without groups the largest output, of equals the first, sure from the threshold on`() {
        val rule = Decision(null, 120, null, 0, demo = true)
        assertEquals(Verdict.Label("b"), verdict(intArrayOf(16, 120, 120), PLAIN, rule, false))
        assertEquals(Verdict.NotSure(Why.CONFIDENCE), verdict(intArrayOf(18, 119, 119), PLAIN, rule, false))
    }

    @Test
    fun `refuses decisions that decide nothing, and outputs of another model`() {
        assertThrows<IllegalArgumentException> { RULE.copy(threshold = 0) }
        assertThrows<IllegalArgumentException> { RULE.copy(kernelBound = -1) }
        assertThrows<IllegalArgumentException> { RULE.copy(abstain = Abstain(By.SCORE, 101)) }
        assertThrows<IllegalArgumentException> { RULE.copy(group = null, abstain = Abstain(By.LARGEST, 9)) }
        assertThrows<IllegalArgumentException> { of(1, 2, 3) }
        assertThrows<IllegalArgumentException> { of(1, 2, 3, 256) }
        assertThrows<IllegalArgumentException> { of(1, 2, 3, 4, rule = RULE.copy(threshold = 511)) }
        assertThrows<IllegalArgumentException> { of(1, 2, 3, 4, rule = RULE.copy(group = "good")) }
        assertThrows<IllegalArgumentException> { Classes(listOf("a", "b"), listOf("x", "x"), "x") }
        assertThrows<IllegalArgumentException> { Classes(listOf("a", "b"), listOf("x", null), "x") }
    }

    @Test
    fun `equal outputs are ranked by their index`() {
        assertEquals(listOf(1, 3, 0, 2), ranked(intArrayOf(5, 9, 5, 9)))
    }
}
