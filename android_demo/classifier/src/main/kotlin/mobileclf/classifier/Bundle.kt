package mobileclf.classifier

import java.io.IOException
import java.io.InputStream

/** The files of a bundle, by their names in it: Android's assets, a folder, a zip. */
fun interface BundleFiles {
    /** Null, or an IOException, where there is no such file. */
    fun open(name: String): InputStream?
}

sealed interface BundleResult

/** How a photo becomes the model's input. */
data class InputSpec(
    val width: Int,
    val height: Int,
    val channels: Int,
    val type: Type,
    val maxPixels: Long,
)

/** What the model's ends are made of. */
enum class Type(val word: String, val bytes: Int) {
    UINT8("uint8", 1), INT8("int8", 1), FLOAT32("float32", 4)
}

/** One picture of the bundle and what must come of it. output: quanta, one for each label. */
data class GoldenCase(
    val image: String,
    val decodedSha256: String,
    val inputSha256: String,
    val output: List<Int>,
    val label: String,
    val verdict: String,
)

/**
 * A bundle whose files are what `mobileclf export` proved. record: all of bundle.json, for a screen
 * that shows what the model is.
 */
class Bundle(
    val name: String,
    val modelFile: String,
    val modelSha256: String,
    val input: InputSpec,
    val output: Type,
    val classes: Classes,
    val decision: Decision,
    val golden: List<GoldenCase>,
    val limits: String,
    val record: Json.Obj,
) : BundleResult

/** Why there is no bundle. `why` is a sentence for a log; an app has its own for each kind. */
sealed class BundleError(val why: String) : BundleResult {
    class Missing(val file: String) : BundleError("there is no $file")
    class NotJson(what: String) : BundleError("$RECORD: $what")
    class UnknownSchema(found: String) :
        BundleError("$RECORD: wanted schema $SCHEMA, found $found; use the app that knows it")
    class BadValue(val key: String, wanted: String, found: String) :
        BundleError("$RECORD: $key: wanted $wanted, found $found")
    class WrongHash(val file: String, wanted: String, found: String) :
        BundleError("$file: wanted sha256 $wanted, found $found; it was changed after it was proven")
    class LfsPointer(val file: String) :
        BundleError("$file: a Git LFS pointer, not the file; run `git lfs pull`")
    class Differs(what: String) : BundleError("$what; export the bundle again")
    class Unreadable(what: String) : BundleError(what)
}

private const val RECORD = "bundle.json"
private const val LABELS = "labels.txt"
private const val SCHEMA = 1

/** bundle.json and every file an app needs of it, if all is as it was proven. Never throws. */
fun readBundle(files: BundleFiles): BundleResult = try {
    val record = when (val whole = Json.parse(load(files, RECORD))) {
        is Json.Obj -> whole
        else -> throw JsonError("no object", 0)
    }
    val schema = record.members["schema"]
    if (schema != Json.Number("$SCHEMA")) throw Refusal(BundleError.UnknownSchema(shown(schema)))
    val bundle = bundleOf(record)
    val tail = checkFiles(files, bundle)
    checkRules(bundle, tail)
    bundle
} catch (refusal: Refusal) {
    refusal.error
} catch (error: JsonError) {
    BundleError.NotJson(error.message.orEmpty())
} catch (error: Throwable) { // whatever a broken file, storage or memory raises: no bundle
    BundleError.Unreadable("the bundle cannot be read ($error)")
}

internal class Refusal(val error: BundleError) : Exception(error.why)

private fun bundleOf(record: Json.Obj): Bundle {
    val root = Fields(record, "")
    val model = root.obj("model")
    val (classes, decision) = rules(root)
    val bundle = Bundle(
        name = root.text("name"),
        modelFile = model.file("file"),
        modelSha256 = model.hash("sha256"),
        input = inputSpec(root.obj("input")),
        output = outputType(root.obj("output")),
        classes = classes,
        decision = decision,
        golden = root.list("golden").map { goldenCase(it, classes) },
        limits = root.text("limits"),
        record = record,
    )
    if (bundle.golden.isEmpty()) root.bad("golden", "golden cases", "none")
    return bundle
}

private fun inputSpec(input: Fields): InputSpec {
    // The only preprocessing there is: other values are another program's.
    input.exactly("fit", Json.Text("warp"))
    input.exactly("resize", Json.Text("bilinear, horizontal then vertical"))
    input.exactly("exif", Json.Bool(true))
    input.exactly("colour", Json.Text("as stored"))
    val channels = input.whole("channels", 1L..3L).toInt()
    if (channels == 2) input.bad("channels", "3 or 1", "2")
    return InputSpec(
        width = input.whole("width", 1L..LONGEST).toInt(),
        height = input.whole("height", 1L..LONGEST).toInt(),
        channels = channels,
        type = input.type("dtype"), // bytes go in as they are, whatever scale a model gives them
        maxPixels = input.whole("max_pixels", 1L..Int.MAX_VALUE),
    )
}

private const val LONGEST = 1L shl 12

private fun outputType(output: Fields): Type {
    output.exactly("kernels", Json.Text("xnnpack"))
    val type = output.type("dtype")
    if (type == Type.FLOAT32) return type
    if (output.real("scale") != 1.0 / QUANTA) output.bad("scale", "1/$QUANTA")
    output.exactly("zero_point", Json.Number(if (type == Type.UINT8) "0" else "-128"))
    return type
}

/** What decides, of bundle.json or of the decision.json in the model file. */
internal fun rules(root: Fields): Pair<Classes, Decision> {
    val labels = root.list("labels")
    val harmful = root.list("groups").filter { it.flag("harmful") }.map { it.text("group") }
    if (harmful.size > 1) root.bad("groups", "at most one that is harmful", "$harmful")
    val purpose = root.text("purpose")
    if (purpose != "real" && purpose != "demo") root.bad("purpose", "real or demo")
    val own = root.obj("decision")
    val threshold = own.quanta("threshold")
    return root.checked("decision") {
        val classes = Classes(
            labels = labels.map { it.text("label") },
            groups = labels.map { it.textOrNull("group") },
            harmful = harmful.firstOrNull(),
        )
        val decision = Decision(
            group = own.textOrNull("group"),
            threshold = threshold,
            abstain = own.objOrNull("abstain")?.let { abstain(it) },
            kernelBound = own.whole("kernel_bound", 0L..Int.MAX_VALUE / 2).toInt(),
            demo = purpose == "demo",
        )
        require(decision.fits(classes)) { "a threshold that the harmful group's outputs can reach" }
        classes to decision
    }
}

private fun abstain(rule: Fields): Abstain {
    // Anything beside these is a rule that this code does not know.
    val found = rule.names
    if (found != setOf("by", "cut", "cut_q")) rule.bad("", "by, cut and cut_q", "$found")
    val by = By.entries.find { it.word == rule.text("by") } ?: rule.bad("by", "a rule known here")
    return Abstain(by, rule.quanta("cut"))
}

private fun goldenCase(case: Fields, classes: Classes): GoldenCase {
    val output = case.wholes("output", 0L..LARGEST)
    if (output.size != classes.labels.size) case.bad("output", "one for each label")
    return GoldenCase(
        image = case.file("image"),
        decodedSha256 = case.hash("decoded_sha256"),
        inputSha256 = case.hash("input_sha256"),
        output = output,
        label = case.text("label"),
        verdict = case.text("verdict"),
    )
}

/** Every file that an app needs has the hash that bundle.json names. Returns the model's end. */
private fun checkFiles(files: BundleFiles, bundle: Bundle): Tail {
    val named = Fields(bundle.record, "").obj("files")
    val wanted = named.names.filter { named.obj(it).flag("runtime") }
    for (file in bundle.golden.map { it.image } + LABELS) {
        if (file !in wanted) named.bad(file, "a file that an app needs", "none")
    }
    for (file in wanted) {
        val data = load(files, checkedName(file, named))
        compare(file, named.obj(file).hash("sha256"), sha256(data), data)
        if (file == LABELS) checkLabels(data, bundle.classes)
    }
    val tail = opened(files, bundle.modelFile).use { Tail.of(it) }
    compare(bundle.modelFile, bundle.modelSha256, tail.sha256, tail.bytes)
    return tail
}

private fun compare(file: String, wanted: String, found: String, data: ByteArray) {
    if (wanted == found) return
    if (data.says("version https://git-lfs")) throw Refusal(BundleError.LfsPointer(file))
    throw Refusal(BundleError.WrongHash(file, wanted, found))
}

private fun checkLabels(data: ByteArray, classes: Classes) {
    if (!data.contentEquals(classes.labels.joinToString("") { "$it\n" }.toByteArray())) {
        throw Refusal(BundleError.Differs("$LABELS holds other labels than $RECORD"))
    }
}

/**
 * What decides in bundle.json is what lies in the model file, which the hash vouches for: few
 * golden cases lie so near the threshold that they would notice it moved.
 */
private fun checkRules(bundle: Bundle, tail: Tail) {
    val own = associatedFile(tail, "decision.json")
        ?: throw Refusal(BundleError.Differs("${bundle.modelFile} holds no decision.json"))
    val proven = rules(Fields(Json.parse(own) as Json.Obj, ""))
    if (proven != bundle.classes to bundle.decision) {
        val what = "$RECORD decides by other labels, groups or thresholds than ${bundle.modelFile}"
        throw Refusal(BundleError.Differs(what))
    }
}

private fun opened(files: BundleFiles, name: String): InputStream = try {
    files.open(name)
} catch (_: IOException) {
    null
} ?: throw Refusal(BundleError.Missing(name))

private fun load(files: BundleFiles, name: String): ByteArray = opened(files, name).use { it.readBytes() }
