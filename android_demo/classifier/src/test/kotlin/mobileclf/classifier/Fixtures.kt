package mobileclf.classifier

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** A picture in memory, by a colour for each place. */
class Painted(
    override val width: Int,
    override val height: Int,
    private val colour: (Int, Int) -> Int,
) : Rows {
    override fun read(y: Int, into: IntArray) {
        for (x in 0 until width) into[x] = colour(x, y)
    }
}

/** RGB bytes of a file as rows. */
class Stored(override val width: Int, override val height: Int, private val rgb: ByteArray) : Rows {
    override fun read(y: Int, into: IntArray) {
        var at = 3 * width * y
        for (x in 0 until width) {
            into[x] = (255 shl 24) or (rgb.u8(at) shl 16) or (rgb.u8(at + 1) shl 8) or rgb.u8(at + 2)
            at += 3
        }
    }
}

/** Colours without any order in them, the same in every run. */
fun noise(x: Int, y: Int): Int {
    var mixed = x * 0x9E3779B1.toInt() + y * 0x85EBCA6B.toInt()
    mixed = (mixed xor (mixed ushr 15)) * 0x2C1B3C6D
    return mixed xor (mixed ushr 12)
}

/** A model that is a sum: output i of the bytes at i, i + n, ...; the Python side has the same. */
fun summing(labels: Int) = Engine { input, output ->
    val sums = LongArray(labels)
    for (i in 0 until input.capacity()) sums[i % labels] += (input.get(i).toInt() and 255).toLong()
    for (i in 0 until labels) output.put(i, (sums[i] * 7 / 64 % 256).toByte())
}

/** A decoder of the PNGs that [drawnPng] makes: rows of RGB, filter 0, not interlaced. */
object PlainPng : Decoder {
    override fun room() = Long.MAX_VALUE

    override fun <T> decode(photo: Container.Photo, use: (Rows) -> T): T {
        val data = photo.stream.toByteArray()
        var at = 8
        val packed = ByteArrayOutputStream()
        while (at < data.size) {
            val length = data.u32be(at).toInt()
            if (data.says("IDAT", at + 4)) packed.write(data, at + 8, length)
            at += 12 + length
        }
        val lines = java.util.zip.InflaterInputStream(ByteArrayInputStream(packed.toByteArray())).readBytes()
        val rgb = ByteArray(3 * photo.width * photo.height)
        val row = 3 * photo.width
        for (y in 0 until photo.height) lines.copyInto(rgb, y * row, y * (row + 1) + 1, (y + 1) * (row + 1))
        return use(Stored(photo.width, photo.height, rgb))
    }
}

fun chunk(kind: String, body: ByteArray): ByteArray {
    val named = kind.toByteArray(Charsets.ISO_8859_1) + body
    return be32(body.size) + named + be32(CRC32().apply { update(named) }.value.toInt())
}

fun be32(value: Int) = ByteArray(4) { (value shr (24 - 8 * it)).toByte() }

fun drawnPng(rows: Rows, vararg more: ByteArray): ByteArray {
    val lines = ByteArrayOutputStream()
    val line = IntArray(rows.width)
    for (y in 0 until rows.height) {
        rows.read(y, line)
        lines.write(0)
        for (colour in line) for (shift in listOf(16, 8, 0)) lines.write(colour shr shift)
    }
    val packed = ByteArrayOutputStream()
    java.util.zip.DeflaterOutputStream(packed).use { it.write(lines.toByteArray()) }
    val header = be32(rows.width) + be32(rows.height) + byteArrayOf(8, 2, 0, 0, 0)
    return PNG_SIGNATURE.toByteArray(Charsets.ISO_8859_1) + chunk("IHDR", header) +
        more.fold(ByteArray(0)) { all, one -> all + one } +
        chunk("IDAT", packed.toByteArray()) + chunk("IEND", ByteArray(0))
}

/** Files in memory, which a test may change. */
class Held(val files: MutableMap<String, ByteArray>) : BundleFiles {
    override fun open(name: String) = files[name]?.let { ByteArrayInputStream(it) }

    fun text(name: String) = String(files.getValue(name))

    fun replaced(name: String, old: String, new: String): Held {
        check(old in text(name)) { "$old is not in $name" }
        return Held(HashMap(files).also { it[name] = text(name).replace(old, new).toByteArray() })
    }

    fun with(name: String, data: ByteArray) = Held(HashMap(files).also { it[name] = data })

    fun without(name: String) = Held(HashMap(files).also { it.remove(name) })
}

fun inFolder(folder: File) = BundleFiles { name -> File(folder, name).takeIf { it.isFile }?.inputStream() }

/** A bundle of drawn pictures whose model is [summing], as `mobileclf export` would write it. */
fun madeBundle(purpose: String = "real", threshold: Int = 200, bound: Int = 3): Held {
    val labels = listOf("fly", "death", "penny", "cep")
    val rows = labels.zip(listOf("bad", "bad", "good", "good")).joinToString(",") { (label, group) ->
        """{"label":"$label","group":"$group"}"""
    }
    val rules = """"labels":[$rows],"groups":[{"group":"bad","harmful":true},{"group":"good","harmful":false}],
        "purpose":"$purpose","decision":{"group":"bad","threshold":${threshold / 256.0},"threshold_q":$threshold,
        "abstain":null,"kernel_bound":$bound}"""
    val model = "a model".repeat(1000).toByteArray() // the zip counts from its start
    val zip = withFile(model, "decision.json", "{$rules}".toByteArray())
    val (classes, decision) = rules(Fields(Json.parse("{$rules}".toByteArray()) as Json.Obj, ""))
    val files = HashMap<String, ByteArray>()
    files["model.tflite"] = zip
    files["labels.txt"] = labels.joinToString("") { "$it\n" }.toByteArray()
    val cases = (0 until 6).joinToString(",") { i ->
        val drawn = Painted(40 + 7 * i, 30) { x, y -> noise(x + 100 * i, y) }
        files["golden/$i.png"] = drawnPng(drawn)
        val pixels = modelInput(drawn, 1, 8, 8, 3)
        val output = outputs(summing(4), pixels, Type.UINT8, Type.UINT8, 4)
        """{"image":"golden/$i.png","decoded_sha256":"${decodedSha256(drawn, 1)}",
            "input_sha256":"${sha256(pixels)}","output":${output.toList()},
            "label":"${labels[ranked(output).first()]}",
            "verdict":"${words(verdict(output, classes, decision, false))}"}"""
    }
    val named = (files.keys - "model.tflite").joinToString(",") {
        """"$it":{"sha256":"${sha256(files.getValue(it))}","runtime":true}"""
    }
    files["bundle.json"] = """{"schema":1,"name":"made",$rules,
        "model":{"file":"model.tflite","sha256":"${sha256(zip)}"},
        "input":{"width":8,"height":8,"channels":3,"dtype":"uint8","scale":1.0,"zero_point":0,
        "max_pixels":1000000,"fit":"warp","resize":"bilinear, horizontal then vertical","exif":true,
        "colour":"as stored"},"output":{"dtype":"uint8","scale":0.00390625,"zero_point":0,"kernels":"xnnpack"},
        "golden":[$cases],"files":{$named,"report.html":{"sha256":"${"0".repeat(64)}","runtime":false}},
        "limits":"It is no ground for eating anything."}""".toByteArray()
    return Held(files)
}

/** `model` and a zip behind it with one file, not packed. */
private fun withFile(model: ByteArray, name: String, data: ByteArray): ByteArray {
    val out = ByteArrayOutputStream()
    out.write(model)
    val zip = ByteArrayOutputStream()
    ZipOutputStream(zip).use {
        val entry = ZipEntry(name)
        entry.method = ZipEntry.STORED
        entry.size = data.size.toLong()
        entry.crc = CRC32().apply { update(data) }.value
        it.putNextEntry(entry)
        it.write(data)
    }
    val bytes = zip.toByteArray()
    // ZipOutputStream counts from its own start, mobileclf from the file's.
    val end = (0..bytes.size - 4).last { bytes.says("PK\u0005\u0006", it) }
    val entry = (0..bytes.size - 4).first { bytes.says("PK\u0001\u0002", it) }
    for (at in listOf(end + 16, entry + 42)) {
        val moved = bytes.u32le(at) + model.size
        for (i in 0 until 4) bytes[at + i] = (moved shr (8 * i)).toByte()
    }
    out.write(bytes)
    return out.toByteArray()
}

fun read(files: BundleFiles): Bundle = when (val found = readBundle(files)) {
    is Bundle -> found
    is BundleError -> throw AssertionError(found.why)
}
