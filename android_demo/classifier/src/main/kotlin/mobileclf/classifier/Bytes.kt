package mobileclf.classifier

import java.io.ByteArrayInputStream
import java.io.InputStream
import java.io.SequenceInputStream
import java.security.MessageDigest
import java.util.Collections

/** Reading of numbers and words in files of bytes. Past the end they throw, and that is refused. */
internal fun ByteArray.u8(at: Int): Int = this[at].toInt() and 255

internal fun ByteArray.u16be(at: Int): Int = (u8(at) shl 8) or u8(at + 1)

internal fun ByteArray.u16le(at: Int): Int = (u8(at + 1) shl 8) or u8(at)

internal fun ByteArray.u32be(at: Int): Long = (u16be(at).toLong() shl 16) or u16be(at + 2).toLong()

internal fun ByteArray.u32le(at: Int): Long = (u16le(at + 2).toLong() shl 16) or u16le(at).toLong()

internal fun ByteArray.says(word: String, at: Int = 0): Boolean =
    at >= 0 && at + word.length <= size && word.indices.all { u8(at + it) == word[it].code }

internal fun ByteArray.latin(from: Int, to: Int): String = String(this, from, to - from, Charsets.ISO_8859_1)

/** Bytes made of pieces of others, in order, so that a photo is not copied to leave a part out. */
class Pieces internal constructor(private val pieces: List<Piece>) {
    internal class Piece(val data: ByteArray, val from: Int, val to: Int)

    val size: Int get() = pieces.sumOf { it.to - it.from }

    fun stream(): InputStream = SequenceInputStream(
        Collections.enumeration(pieces.map { ByteArrayInputStream(it.data, it.from, it.to - it.from) }),
    )

    /** These, with `head` before them. */
    internal fun behind(head: ByteArray) = Pieces(listOf(Piece(head, 0, head.size)) + pieces)

    fun toByteArray(): ByteArray {
        val whole = ByteArray(size)
        var at = 0
        for (piece in pieces) {
            piece.data.copyInto(whole, at, piece.from, piece.to)
            at += piece.to - piece.from
        }
        return whole
    }

    internal companion object {
        /** `data` without the ranges [from, to), which rise and do not overlap. */
        fun without(data: ByteArray, ranges: List<Pair<Int, Int>>): Pieces {
            val kept = ArrayList<Piece>()
            var at = 0
            for ((from, to) in ranges) {
                if (from > at) kept += Piece(data, at, from)
                at = to
            }
            kept += Piece(data, at, data.size)
            return Pieces(kept)
        }
    }
}

internal fun hex(digest: ByteArray): String {
    // No format string: in some languages its digits are not 0 to 9.
    val digits = "0123456789abcdef"
    return buildString {
        for (byte in digest) append(digits[(byte.toInt() shr 4) and 15]).append(digits[byte.toInt() and 15])
    }
}

/** Hex sha256 of `data`. */
fun sha256(data: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(data))
