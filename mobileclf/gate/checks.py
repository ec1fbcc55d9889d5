"""What a bundle is held to: plain functions of a `Gate`, each of which returns one `Check`.

Those of photos are in `of_photos`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mobileclf import bundles, cores
from mobileclf.errors import DataError, MobileclfError, ProofError
from mobileclf.golden import Judge
from mobileclf.images.load import load
from mobileclf.tflite.runtimes import Runtime, at_hand

from . import baseline as earlier
from . import figures, pictures
from .baseline import Pair
from .check import Change, Check, Limits, not_judged
from .gate import Gate
from .latency import latency
from .of_photos import accuracy, harmful, photos
from .subject import Subject

OF_APPS: tuple[Runtime, ...] = ("ai-edge-litert", "tflite-runtime")
# The runtimes that have both kernel families and are promised to agree to the last bit.
ALIKE: tuple[Runtime, ...] = ("ai-edge-litert", "tensorflow")
THREADS = (1, 2, 4)
NOISE = 8  # random pictures that all runtimes answer, beside the golden ones
FILES, PHOTOS, BASELINE = "files", "photos", "baseline"
# Checks that run the model in this process, where `golden` says it if that cannot be.
OF_MODEL = ("operators", "same_bytes", "accuracy", "harmful")


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
        **{f"loads[{runtime}]": partial(loads, runtime=runtime) for runtime in OF_APPS},
        "operators": operators,
        "same_bytes": same_bytes,
    }
    if gate.data is not None:
        chosen |= {PHOTOS: photos, "accuracy": accuracy, "harmful": harmful}
    if gate.baseline is None:
        return chosen
    chosen[BASELINE] = baseline
    if not earlier.is_bundle(gate.baseline):
        return chosen | {name: partial(_of_figures, name=name) for name in PAIRS}
    for name, of_models in MODELS.items():
        chosen[name] = partial(_beside, of=of_models)
    if gate.data is not None:
        for name, of_pair in PAIRS.items():
            chosen[name] = partial(_on_photos, name=name, of=of_pair)
    if gate.limits.seconds:
        chosen["baseline_latency"] = _latency
    return chosen


def run(name: str, check: CheckOf, gate: Gate) -> Check:
    """What comes of one check. Where what it needs cannot be used (the bundle's files, its model,
    photos, baseline), the one check of that has failed, and others are not judged."""
    if gate.problem is not None:
        if name == FILES:
            return _failed(name, "the files that were proven", gate.problem)
        return _not_run(name, FILES)
    if name in (PHOTOS, "accuracy", "harmful") and gate.no_photos is not None:
        if name == PHOTOS:
            return _failed(name, "labelled photos", gate.no_photos)
        return _not_run(name, PHOTOS)
    if name.startswith(f"{BASELINE}_") and gate.no_baseline is not None:
        return _not_run(name, BASELINE)
    of_pair = name in PAIRS and earlier.is_bundle(gate.baseline) if gate.baseline else False
    if of_pair and gate.no_photos is not None:
        return _not_run(name, PHOTOS)
    if (name in OF_MODEL or of_pair) and gate.refused is not None:
        return _not_run(name, "golden")
    return check(gate)


def _not_run(name: str, failed: str) -> Check:
    return not_judged(name, f"what {failed} is to give", f"not run: {failed} failed")


def run_all(gate: Gate) -> list[Check]:
    """Every check of a gate."""
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
        _pictures(gate)  # which names one that cannot be read
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
    """A photo of known colours that EXIF turns gives them upright and in the order of channels.

    By this package's own reading, which golden pictures and `predict` go through; what an app
    does with EXIF it cannot tell.
    """
    wanted = "known colours upright, in the order of channels, for each orientation in EXIF"
    wrong = pictures.misread(load, gate.subject.spec)
    if wrong:
        said = ", ".join(f"orientation {orientation}" for orientation in wrong)
        return _judged("input", False, wanted, f"others for {said}")
    return _passed("input", wanted, f"those for all {len(pictures.STORED)} orientations")


def loads(gate: Gate, runtime: Runtime) -> Check:
    """The runtime loads the model and runs it once, in a process of its own."""
    from mobileclf.tflite import delegates

    name = f"loads[{runtime}]"
    if not at_hand(runtime):
        return not_judged(
            name, f"{runtime} loads and runs the model", f"{runtime} is not installed"
        )
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
    if not gate.alike:
        return not_judged(name, "the labels of the earlier bundle", "baseline_labels failed")
    return of(gate.pair, gate.limits)


def baseline(gate: Gate) -> Check:
    """The earlier bundle is as it was proven and runs, or the earlier record has its figures; and
    where there are photos, it can be asked about them."""
    wanted = "an earlier bundle, or record, that can be used"
    if gate.no_baseline is not None:
        return _failed(BASELINE, wanted, gate.no_baseline)
    return _passed(BASELINE, wanted, f"{gate.baseline}")


def _of_figures(gate: Gate, name: str) -> Check:
    """The bundle's own parity.json beside an earlier one."""
    _, found = figures.compare(*gate.figures, gate.limits)
    return next(check for check in found if check.name == name)


def _latency(gate: Gate) -> Check:
    return latency(gate.before, gate.subject, gate.limits.seconds)


def changes(gate: Gate) -> list[Change]:
    """What is not as it was beside the earlier bundle or record; none without, or where one of
    them cannot be used."""
    if gate.baseline is None or gate.problem is not None or gate.no_baseline is not None:
        return []
    if not earlier.is_bundle(gate.baseline):
        return figures.compare(*gate.figures, gate.limits)[0]
    found = [*earlier.changes(gate.before, gate.subject)]
    asked = gate.data is not None and not (gate.no_photos or gate.refused)
    if asked and gate.before.classes == gate.subject.classes:
        found += earlier.changes_on_photos(gate.pair)
    return found


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
