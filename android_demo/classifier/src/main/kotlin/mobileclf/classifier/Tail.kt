package mobileclf.classifier

import java.io.InputStream
import java.security.MessageDigest

/**
 * The end of a file that is too large to hold, with the sha256 of all of it.
 *
 * bytes: the last ones, or all of a small file. start: where in the file they begin.
 */
internal class Tail(val sha256: String, val bytes: ByteArray, val start: Long) {
    companion object {
        /** Reads `stream` once, to its end. */
        fun of(stream: InputStream): Tail {
            val digest = MessageDigest.getInstance("SHA-256")
            var before = ByteArray(0)
            var piece = ByteArray(KEPT)
            var length = 0L
            while (true) {
                val count = filled(stream, piece)
                digest.update(piece, 0, count)
                length += count
                if (count < piece.size) {
                    val bytes = before + piece.copyOf(count)
                    return Tail(hex(digest.digest()), bytes, length - bytes.size)
                }
                // The one before is done with: its array is the next to be filled.
                val next = if (before.size == KEPT) before else ByteArray(KEPT)
                before = piece
                piece = next
            }
        }
    }
}

/** So much is always kept, and at most twice that. The files in a model take a hundredth of it. */
private const val KEPT = 1 shl 20

private fun filled(stream: InputStream, piece: ByteArray): Int {
    var count = 0
    while (count < piece.size) {
        val more = stream.read(piece, count, piece.size - count)
        if (more < 0) break
        count += more
    }
    return count
}

/**
 * A file inside the model file: TFLite's metadata are a zip at its end. Null where there is none.
 *
 * Only as `mobileclf` writes it, not packed and counted from the start of the model file.
 */
internal fun associatedFile(tail: Tail, name: String): ByteArray? {
    val data = tail.bytes
    val end = (data.size - 22 downTo maxOf(0, data.size - 22 - 0xffff))
        .firstOrNull { data.says("PK\u0005\u0006", it) } ?: return null
    var at = (data.u32le(end + 16) - tail.start).toInt()
    repeat(data.u16le(end + 10)) {
        require(data.says("PK\u0001\u0002", at)) { "a broken zip in the model" }
        val named = data.u16le(at + 28)
        if (String(data, at + 46, named, Charsets.UTF_8) == name) return stored(tail, at)
        at += 46 + named + data.u16le(at + 30) + data.u16le(at + 32)
    }
    return null
}

private fun stored(tail: Tail, entry: Int): ByteArray {
    val data = tail.bytes
    require(data.u16le(entry + 10) == 0) { "a packed file in the model" }
    val size = data.u32le(entry + 24).toInt()
    val local = (data.u32le(entry + 42) - tail.start).toInt()
    require(data.says("PK\u0003\u0004", local)) { "a broken zip in the model" }
    val from = local + 30 + data.u16le(local + 26) + data.u16le(local + 28)
    return data.copyOfRange(from, from + size)
}
