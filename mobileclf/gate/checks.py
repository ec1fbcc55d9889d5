"""What a bundle is held to: plain functions of a `Gate`, each of which returns one `Check`.

Statistical checks fail only on what the photos show: at most RISK of the time where the bundle is
as good as it was.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mobileclf import bundles, cores
from mobileclf.errors import DataError, MobileclfError, ProofError
from mobileclf.golden import Judge
from mobileclf.images.load import load
from mobileclf.records import read_json
from mobileclf.stats.fisher import fewer
from mobileclf.tflite.runtimes import Runtime, at_hand

from . import baseline as earlier
from .baseline import Pair
from .check import RISK, Check, Limits, not_judged
from .gate import Gate
from .subject import Answers, Photos, Subject, are_harmful

OF_APPS: tuple[Runtime, ...] = ("ai-edge-litert", "tflite-runtime")
# The runtimes that have both kernel families and are promised to agree to the last bit.
ALIKE: tuple[Runtime, ...] = ("ai-edge-litert", "tensorflow")
THREADS = (1, 2, 4)
NOISE = 8  # random pictures that all runtimes answer, beside the golden ones
FILES = "files"


CheckOf = Callable[[Gate], Check]


def checks_for(gate: Gate) -> dict[str, CheckOf]:
    """The checks by name, in the order in which they are best read: those of the bundle, of the
    photos if there are any, and beside the earlier bundle or record if there is one.

    Raises DataError for a baseline that is neither.
    """
    chosen: dict[str, CheckOf] = {
        FILES: files,
        "labels": labels,
        "decision": decision,
        "input": input_bytes,
        "golden": golden,
        **{
            f"loads[{runtime}]": partial(loads, runtime=runtime)
            for runtime in OF_APPS
            if at_hand(runtime)
        },
        "operators": operators,
        "same_bytes": same_bytes,
    }
    if gate.data is not None:
        chosen |= {"photos": photos, "accuracy": accuracy, "harmful": harmful}
    if gate.baseline is None:
        return chosen
    if not earlier.is_bundle(gate.baseline):
        return chosen | {"baseline_accuracy": baseline_figures}
    for name, of_models in MODELS.items():
        chosen[name] = partial(_beside, of=of_models)
    if gate.data is not None:
        for name, of_pair in PAIRS.items():
            chosen[name] = partial(_on_photos, name=name, of=of_pair)
    if gate.limits.seconds:
        chosen["baseline_latency"] = latency
    return chosen


def run(name: str, check: CheckOf, gate: Gate) -> Check:
    """What comes of one check; one that needs the bundle's files is not judged where those are
    not what was proven. Raises MobileclfError for photos or a baseline that cannot be used."""
    if gate.problem is None:
        return check(gate)
    wanted = "the files that were proven"
    if name == FILES:
        return _failed(name, wanted, gate.problem)
    return not_judged(name, wanted, f"not run: {FILES} failed")


def run_all(gate: Gate) -> list[Check]:
    """Every check of a gate. Raises as `run`."""
    return [run(name, check, gate) for name, check in checks_for(gate).items()]


# Of the bundle alone


def files(gate: Gate) -> Check:
    """Every file that bundle.json names is there with its sha256."""
    wanted = "every file with the sha256 in bundle.json"
    return _passed(FILES, wanted, f"{1 + len(gate.record['files'])} files")


def labels(gate: Gate) -> Check:
    """labels.txt has the labels of bundle.json, in their order."""
    count = len(gate.subject.classes.labels)
    return _unless_raised(
        "labels",
        "the labels of bundle.json in labels.txt",
        f"{count} labels",
        lambda: bundles.check_labels(gate.folder, gate.record),
    )


def decision(gate: Gate) -> Check:
    """The decision in bundle.json is the one inside the model file."""
    one, file = gate.subject, gate.folder / gate.record["model"]["file"]
    return _unless_raised(
        "decision",
        "the decision of bundle.json inside the model file",
        f"threshold {one.decision.threshold_q} of 256",
        lambda: bundles.check_proven(file, one.model, one.classes, one.decision),
    )


def golden(gate: Gate) -> Check:
    """Every golden picture is decoded, resized, scored and judged to what the bundle says."""
    from mobileclf.tflite.interpreter import as_quanta, open_interpreter, scores

    def repeat() -> None:
        engine = open_interpreter(gate.model)
        judge = Judge(
            spec=one.spec,
            classes=one.classes,
            decision=one.decision,
            score=lambda pixels: as_quanta(scores(engine, pixels)),
        )
        bundles.check_golden(gate.folder, cases, set(gate.record["files"]), judge)

    one = gate.subject
    cases = {case["image"]: dict(case) for case in gate.record["golden"]}
    wanted = "pixels, outputs and verdict of every golden picture as in bundle.json"
    return _unless_raised("golden", wanted, f"{len(cases)} pictures", repeat)


def input_bytes(gate: Gate) -> Check:
    """A photo that lies on its side, with the orientation in its EXIF, gives the very input of
    its upright copy; in red and blue, so that swapped channels would show."""
    wanted = "the same input bytes of a photo turned by EXIF and of its upright copy"
    wrong = []
    for orientation in range(2, 9):
        turned, upright = _turned(orientation)
        one, other = load(turned, gate.subject.spec), load(upright, gate.subject.spec)
        if not np.array_equal(one, other):
            wrong.append(f"orientation {orientation}")
    if wrong:
        return _judged("input", False, wanted, f"others for {', '.join(wrong)}")
    return _passed("input", wanted, "the same for all 8 orientations")


def _turned(orientation: int) -> tuple[bytes, bytes]:
    """A JPEG with that orientation in its EXIF, and as PNG what it shows."""
    from PIL import Image, ImageOps

    across, down = np.meshgrid(np.arange(80), np.arange(48))
    pixels = np.stack([across * 3, np.zeros_like(across), down * 5], axis=2).astype(np.uint8)
    exif, jpeg, png = Image.Exif(), io.BytesIO(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(jpeg, "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg.getvalue())))
    Image.fromarray(np.asarray(upright)).save(png, "PNG")
    return jpeg.getvalue(), png.getvalue()


def loads(gate: Gate, runtime: Runtime) -> Check:
    """The runtime loads the model and runs it once, in a process of its own."""
    from mobileclf.tflite import delegates

    name = f"loads[{runtime}]"
    (found,) = delegates.load(gate.folder / gate.record["model"]["file"], [runtime], run=True)
    wanted = f"{found.runtime} loads and runs the model"
    promised = gate.record["model"].get("min_runtime") is not None
    if found.loads:
        return _passed(name, wanted, "it does")
    if found.loads is None or (runtime == "tflite-runtime" and not promised):
        return not_judged(name, wanted, str(found.reason))
    return _judged(name, False, wanted, str(found.reason))


def operators(gate: Gate) -> Check:
    """The oldest runtime that the bundle promises has every operator, and runs it if at hand."""
    from mobileclf.tflite import oldest

    promised = gate.record["model"].get("min_runtime")
    if promised is None:
        return Check(
            name="operators",
            passed=None,
            wanted="operators that the oldest runtime has",
            found="the bundle promises no oldest runtime; export where tflite-runtime is installed",
        )
    return _unless_raised(
        "operators",
        f"operators that TensorFlow Lite {promised} has",
        "no newer ones",
        lambda: oldest.check(gate.model, promised),
    )


def same_bytes(gate: Gate) -> Check:
    """The same bytes on every runtime of one kernel family, with any number of threads.

    On golden pictures and noise. With floating point inside, which may end on the other side of a
    quantum, one of difference is allowed.
    """
    from mobileclf.tflite.audit import is_int8
    from mobileclf.tflite.interpreter import Kernels, as_quanta, open_interpreter, scores

    model = gate.model
    bound = 0 if is_int8(model) is None else 1
    pictures = _pictures(gate)
    threads = [n for n in THREADS if n <= max(2, cores.usable())]
    families: tuple[Kernels, ...] = ("xnnpack", "builtin")
    ways = list(product([runtime for runtime in ALIKE if at_hand(runtime)], threads))
    wrong = []
    for kernels in families:
        found = {
            f"{runtime}, {n} threads": as_quanta(
                scores(
                    open_interpreter(model, kernels=kernels, runtime=runtime, threads=n),
                    pictures,
                )
            ).astype(np.int64)
            for runtime, n in ways
        }
        first, *others = found
        for other in others:
            if (by := int(np.abs(found[first] - found[other]).max())) > bound:
                wrong.append(f"{kernels}: {other} differs from {first} by up to {by} of 256")
    wanted = f"the same outputs{' to one step' if bound else ''} in each kernel family"
    said = f"{len(pictures)} pictures, 2 families, {len(ways)} ways each"
    return _judged("same_bytes", not wrong, wanted, "; ".join(wrong) or said)


def _pictures(gate: Gate) -> NDArray[np.uint8]:
    """The golden pictures and noise, as the model takes them."""
    spec = gate.subject.spec
    names = [case["image"] for case in gate.record["golden"]]
    known = [load(gate.folder / name, spec) for name in names if name in gate.record["files"]]
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, *spec.shape), dtype=np.uint8)
    return np.concatenate([np.stack(known), noise]) if known else noise


# Of photos


def photos(gate: Gate) -> Check:
    """Every photo of the data can be used; one that cannot would be refused by the app, too."""
    out = gate.photos.left_out
    return Check(
        name="photos",
        passed=not out,
        wanted="every photo one that can be used",
        found=f"{len(gate.photos)} photos, {len(out)} that cannot be used",
        details=out,
    )


def accuracy(gate: Gate) -> Check:
    """The share of right answers is not shown to be below that on the bundle's own test photos."""
    own = gate.record["metrics"]
    n, right = len(gate.answers), int(gate.answers.right.sum())
    own_n, own_right = own["n"], round(own["int8"]["accuracy"] * own["n"])
    p = fewer(right, n, own_right, own_n)
    wrong = np.flatnonzero(~gate.answers.right)
    return Check(
        name="accuracy",
        passed=p > RISK,
        wanted=f"not below the bundle's own {own_right} of {own_n} ({own_right / own_n:.1%}), "
        f"p > {RISK}",
        found=f"{right} of {n} ({right / n:.1%}), p = {p:.2g}",
        details=_rows(gate.photos, gate.answers, wrong, gate.subject),
    )


def harmful(gate: Gate) -> Check:
    """The share of harmful photos called harmless is not shown to be above what the bundle
    guarantees or, without a guarantee, above that on its own test photos. Each is named."""
    from mobileclf.stats.exact import lower_bound

    name, one, found = "harmful", gate.subject, gate.answers
    truly = are_harmful(one.classes, gate.photos.labels)
    wanted = "harmful photos called harmless no more often than promised"
    if truly is None or found.missed is None:
        return not_judged(name, wanted, "there is no harmful group")
    n, missed = int(truly.sum()), int(found.missed.sum())
    details = _rows(gate.photos, found, np.flatnonzero(found.missed), one)
    said = f"{missed} of {n}"
    if not n:
        return not_judged(name, wanted, "no photo is of a harmful class")
    own = gate.record["metrics"]
    if guarantee := own.get("guarantee"):
        low = float(lower_bound(missed, n, confidence=1 - RISK))
        wanted = f"at most {guarantee['most']:.2%} of harmful photos called harmless (guarantee)"
        passed, said = low <= guarantee["most"], f"{said}, at least {low:.2%}"
    elif test := own.get("decision"):
        own_missed = test["missed"]
        own_n = sum(test[key] for key in ("caught", "missed", "harmful_not_sure"))
        p = fewer(n - missed, n, own_n - own_missed, own_n)
        wanted = f"no more than the bundle's own {own_missed} of {own_n}, p > {RISK}"
        passed, said = p > RISK, f"{said}, p = {p:.2g}"
    else:
        said += ", and the bundle does not say how many on its own test photos; export it again"
        return not_judged(name, wanted, said, details)
    return Check(name=name, passed=passed, wanted=wanted, found=said, details=details)


# Beside an earlier bundle or record

MODELS: dict[str, Callable[[Subject, Subject], Check]] = {
    "baseline_labels": earlier.same_labels,
    "baseline_size": earlier.no_larger,
    "baseline_runtime": earlier.no_newer,
}
PAIRS: dict[str, Callable[[Pair, Limits], Check]] = {
    "baseline_accuracy": earlier.accuracy,
    "baseline_harmful": earlier.harmful,
}


def _beside(gate: Gate, of: Callable[[Subject, Subject], Check]) -> Check:
    return of(gate.before, gate.subject)


def _on_photos(gate: Gate, name: str, of: Callable[[Pair, Limits], Check]) -> Check:
    if set(gate.before.classes.labels) != set(gate.subject.classes.labels):
        return not_judged(name, "the labels of the earlier bundle", "baseline_labels failed")
    return of(gate.pair, gate.limits)


def latency(gate: Gate) -> Check:
    """How long the model takes beside the earlier one, within `seconds` of measuring."""
    return earlier.latency(gate.before, gate.subject, gate.limits.seconds)


def baseline_figures(gate: Gate) -> Check:
    """The bundle's own parity.json beside an earlier one."""
    assert gate.baseline is not None
    now = read_json(gate.folder / earlier.PARITY)
    _, (check,) = earlier.figures(read_json(gate.baseline), now, gate.limits)
    return check


def changes(gate: Gate) -> list[earlier.Change]:
    """What is not as it was beside the earlier bundle or record; none without."""
    if gate.baseline is None or gate.problem is not None:
        return []
    if not earlier.is_bundle(gate.baseline):
        now = read_json(gate.folder / earlier.PARITY)
        return earlier.figures(read_json(gate.baseline), now, gate.limits)[0]
    found = [*earlier.changes(gate.before, gate.subject)]
    if gate.data is not None and gate.before.classes == gate.subject.classes:
        found += earlier.changes_on_photos(gate.pair)
    return found


def _rows(
    of: Photos, said: Answers, indices: Sequence[int] | NDArray[np.int64], one: Subject
) -> tuple[str, ...]:
    """A line for each of these photos: what it is and what was said."""
    largest = said.quanta.argmax(axis=1)
    return tuple(
        f"{of.names[i]}: {of.labels[i]}, found {one.classes.labels[largest[i]]}, "
        f"verdict {said.verdicts[i]}"
        for i in indices
    )


def _unless_raised(name: str, wanted: str, found: str, work: Callable[[], object]) -> Check:
    try:
        work()
    except (DataError, ProofError) as error:
        return _failed(name, wanted, error)
    return _passed(name, wanted, found)


def _judged(name: str, passed: bool, wanted: str, found: str) -> Check:
    return Check(name=name, passed=passed, wanted=wanted, found=found)


def _passed(name: str, wanted: str, found: str) -> Check:
    return _judged(name, True, wanted, found)


def _failed(name: str, wanted: str, error: MobileclfError) -> Check:
    return _judged(name, False, wanted, str(error))
