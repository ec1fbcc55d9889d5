"""A bundle held to what it promises: each check passes on a whole bundle and fails on its fault."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import flatbuffers
import numpy as np
import pytest

from mobileclf.config import make_settings
from mobileclf.decision import NOT_SURE, Abstain, Decision
from mobileclf.errors import DataError, UsageError
from mobileclf.gate import baseline, checks, pictures
from mobileclf.gate.baseline import Pair
from mobileclf.gate.check import RISK, Check, Limits, of_gates
from mobileclf.gate.checks import checks_for, run, run_all
from mobileclf.gate.figures import compare, figures_of
from mobileclf.gate.gate import Gate
from mobileclf.gate.junit import junit
from mobileclf.gate.latency import latency
from mobileclf.gate.of_run import outside, write_reports
from mobileclf.gate.subject import Subject, judged, load_photos
from mobileclf.gate.summary import MOST_DETAILS, markdown
from mobileclf.images.load import load, resize, stored
from mobileclf.records import read_json, write_json
from mobileclf.run import bring_up_to_date
from mobileclf.stages.parity import STAGE
from mobileclf.stats import unpaired
from mobileclf.stats.fisher import fewer
from mobileclf.tflite.runtimes import OLDEST

from .bundles import CLASSES, PHOTOS, SPEC, decided, rehash, write_bundle, write_photos

CI = (Path(__file__).parent.parent / "docs" / "ci.md").read_text()
OF_BUNDLE = {"files", "labels", "decision", "input", "golden", "operators", "same_bytes"}
OF_BUNDLE |= {f"loads[{runtime}]" for runtime in checks.OF_APPS}


@pytest.fixture(scope="module", autouse=True)
def on_litert_alone():
    """TensorFlow's interpreter takes its seconds; tests/parity has it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "ALIKE", ("ai-edge-litert",))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("made") / "small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "all")


@pytest.fixture
def bundle(made, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(made, tmp_path / "small"))


def outcome_of(gate: Gate, name: str) -> Check:
    return run(name, checks_for(gate)[name], gate)


def failed(gate: Gate) -> set[str]:
    return {check.name for check in run_all(gate) if check.passed is False}


def test_a_whole_bundle_passes_every_check(made, photos):
    found = run_all(Gate(made, photos))
    assert {check.name for check in found} == OF_BUNDLE | {"photos", "accuracy", "harmful"}
    # A bundle says its own share of missed photos only since there is a threshold record with it.
    assert [check.name for check in found if not check.passed] == ["harmful"]


def flip_a_bit(bundle: Path) -> None:
    data = bytearray((bundle / "model.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.tflite").write_bytes(data)


def test_one_flipped_bit_fails_the_files_and_nothing_else_is_judged(bundle, photos):
    flip_a_bit(bundle)
    found = {check.name: check for check in run_all(Gate(bundle, photos))}
    assert found.pop("files").passed is False
    assert all(check.passed is None and "files failed" in check.found for check in found.values())


@pytest.mark.parametrize("key", ["decision", "golden", "metrics", "input", "labels"])
def test_a_bundle_without_a_key_fails_its_files_in_one_line(bundle, key):
    record = read_json(bundle / "bundle.json")
    del record[key]
    write_json(bundle / "bundle.json", record)
    gate = Gate(bundle)
    check = outcome_of(gate, "files")
    assert check.passed is False and "bundle.json: " in check.found and "\n" not in check.found


def test_labels_in_another_order_than_the_bundles_own(bundle):
    (bundle / "labels.txt").write_text("c\nb\na\n")
    assert failed(Gate(rehash(bundle))) == {"labels"}


def test_a_threshold_that_was_moved_after_the_model_was_made(bundle):
    def moved(record: Any) -> None:
        record["decision"] |= {"threshold_q": 101, "threshold": 101 / 256}

    rehash(bundle, moved)
    assert "decision" in failed(Gate(bundle))


def test_a_golden_case_that_comes_out_otherwise(bundle):
    rehash(bundle, lambda record: record["golden"][0]["output"].__setitem__(0, 255))
    check = outcome_of(Gate(bundle), "golden")
    assert check.passed is False and "golden/0.png" in check.found and "output" in check.found


def test_a_decoder_that_forgets_the_orientation(made, monkeypatch):
    def lying(data: bytes, spec: Any) -> Any:
        return resize(stored(data, spec).convert("RGB"), spec)

    monkeypatch.setattr(checks, "load", lying)
    check = outcome_of(Gate(made), "input")
    assert check.passed is False and "orientation 6" in check.found


def test_a_reader_that_turns_otherwise_or_swaps_channels_is_misread():
    assert pictures.misread(load, SPEC) == []

    def stays(data: bytes, spec: Any) -> Any:
        return resize(stored(data, spec).convert("RGB"), spec)

    stuck = pictures.misread(stays, SPEC)
    assert stuck == [2, 3, 4, 5, 6, 7, 8]
    swapped = pictures.misread(lambda data, spec: load(data, spec)[:, :, ::-1], SPEC)
    assert swapped == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_model_that_does_not_run_ends_in_failures_and_not_in_a_crash(bundle, photos):
    model = (bundle / "model.tflite").read_bytes()
    (bundle / "model.tflite").write_bytes(model[: len(model) // 2])
    gate = Gate(rehash(bundle), photos)
    assert outcome_of(gate, "loads[ai-edge-litert]").passed is False
    assert outcome_of(gate, "golden").passed is False
    assert outcome_of(gate, "accuracy").passed is None


def test_no_model_is_run_here_before_it_has_run_in_a_process_of_its_own(made, monkeypatch):
    from mobileclf.tflite import delegates, interpreter

    def crashed(path: Path) -> None:
        raise DataError("model: it crashed (exit -11)")

    monkeypatch.setattr(delegates, "check_runs", crashed)
    monkeypatch.setattr(interpreter, "open_interpreter", pytest.fail)
    check = outcome_of(Gate(made), "golden")
    assert check.passed is False and "it crashed" in check.found


def test_operators_that_are_newer_than_the_promise(bundle):
    rehash(bundle, lambda record: record["model"].update(min_runtime="1.5"))
    check = outcome_of(Gate(bundle), "operators")
    assert check.passed is False and "CONV_2D" in check.found


def test_without_a_promise_operators_are_not_judged(bundle):
    rehash(bundle, lambda record: record["model"].update(min_runtime=None))
    assert outcome_of(Gate(bundle), "operators").passed is None


def test_a_number_of_threads_that_changes_an_answer(made, monkeypatch):
    from mobileclf.tflite import interpreter

    given = []
    scores = interpreter.scores

    def other(engine: Any, pictures: Any) -> Any:
        given.append(engine)
        found = scores(engine, pictures).copy()
        found[0, 0] ^= len(given) == 2  # the second way of the first family
        return found

    gate = Gate(made)
    monkeypatch.setattr(interpreter, "scores", other)
    check = outcome_of(gate, "same_bytes")
    assert check.passed is False
    assert check.found.startswith("xnnpack: ai-edge-litert, 2 threads differs")
    assert len(given) >= 4


def test_a_photo_that_cannot_be_used_is_named_and_other_files_are_not(made, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "all")
    (tmp_path / "all" / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "all" / "a" / "notes.txt").write_text("no photo")
    check = outcome_of(Gate(made, tmp_path / "all"), "photos")
    assert check.passed is False
    assert [line.split(":")[0] for line in check.details] == ["a/broken.jpg"]


def test_equal_files_count_once(made, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "all")
    some = next((tmp_path / "all" / "a").iterdir())
    shutil.copy(some, tmp_path / "all" / "a" / "copy.png")
    gate = Gate(made, tmp_path / "all")
    assert len(gate.photos) == PHOTOS and outcome_of(gate, "photos").passed


def test_photos_of_other_labels_are_refused(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "all")
    (tmp_path / "all" / "a").rename(tmp_path / "all" / "z")
    with pytest.raises(DataError, match="found 'z'"):
        load_photos(tmp_path / "all", CLASSES, SPEC)


def test_folders_may_carry_the_group(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "all")
    for label, group in zip(CLASSES.labels, CLASSES.groups, strict=True):
        (tmp_path / "all" / label).rename(tmp_path / "all" / f"{label}-{group}")
    assert len(load_photos(tmp_path / "all", CLASSES, SPEC)) == PHOTOS
    for label in ("b-bad", "c-good"):  # a single folder's name says of itself no group
        shutil.rmtree(tmp_path / "all" / label)
    assert set(load_photos(tmp_path / "all", CLASSES, SPEC).labels) == {"a"}


def test_labels_in_another_order_fail_the_accuracy_and_name_the_photos(made, photos, tmp_path):
    for old, new in zip("abc", "bca", strict=True):
        shutil.copytree(photos / old, tmp_path / "all" / new)
    check = outcome_of(Gate(made, tmp_path / "all"), "accuracy")
    assert check.passed is False and check.found.startswith(f"0 of {PHOTOS} ")
    assert len(check.details) == PHOTOS and "found" in check.details[0]


@pytest.mark.parametrize(
    ("own", "passed"),
    [
        ({"decision": {"caught": 40, "missed": 0, "harmful_not_sure": 0}}, False),
        ({"decision": {"caught": 20, "missed": 20, "harmful_not_sure": 0}}, True),
        ({"guarantee": {"most": 0.05}}, False),
        ({"guarantee": {"most": 0.99}}, True),
        ({"guarantee": None}, None),
    ],
)
def test_harmful_photos_called_harmless_are_held_to_the_promise(photos, tmp_path, own, passed):
    """Under a threshold that no picture reaches, every harmful one is called harmless."""
    bundle = write_bundle(tmp_path / "small", decision=decided(255))
    rehash(bundle, lambda record: record["metrics"].update(own))
    gate = Gate(bundle, photos)
    check = outcome_of(gate, "harmful")
    assert check.passed is passed, check
    missed = sorted(name for name in gate.photos.names if name.startswith("b/"))
    named = sorted(line.split(":")[0] for line in check.details)
    assert named and set(named) <= set(missed)
    assert check.found.startswith(f"{len(named)} of {len(missed)}")


# Beside an earlier bundle


def test_the_same_bundle_is_not_worse_than_itself(made, photos):
    found = {check.name: check for check in run_all(Gate(made, photos, made))}
    assert {name for name in found if name.startswith("baseline")} == {
        "baseline", "baseline_labels", "baseline_size", "baseline_runtime",
        "baseline_accuracy", "baseline_harmful",
    }  # fmt: skip
    assert all(check.passed for name, check in found.items() if name.startswith("baseline"))
    assert checks.changes(Gate(made, photos, made)) == []


def test_a_higher_threshold_is_worse_where_harmful_photos_become_harmless(made, photos, tmp_path):
    worse = write_bundle(tmp_path / "worse", decision=decided(255))
    gate = Gate(worse, photos, made)
    check = outcome_of(gate, "baseline_harmful")
    assert check.passed is False and check.found.startswith("worse"), check
    assert check.details and "(bad), is b (good)" in check.details[0]
    assert outcome_of(gate, "baseline_accuracy").passed  # no answer is another
    what = {change.what for change in checks.changes(gate)}
    assert {"threshold of 256", f"verdicts of {PHOTOS} photos"} <= what
    assert outcome_of(Gate(made, photos, worse), "baseline_harmful").passed


def subject(model: bytes = b"", **given: Any) -> Subject:
    about: Any = {"name": "x", "spec": SPEC, "classes": CLASSES, "decision": decided()}
    return Subject(model=model, **{**about, **given})


def pair(was: list[list[int]], now: list[list[int]], labels: str) -> Pair:
    one = subject()
    answers = [judged(CLASSES, decided(), np.array(q), tuple(labels)) for q in (was, now)]
    names = tuple(f"{i}.png" for i in range(len(labels)))
    return Pair(
        earlier=one, now=one, names=names, digests=names, labels=tuple(labels),
        was=answers[0], found=answers[1],
    )  # fmt: skip


A, B, C, TORN = [250, 3, 3], [3, 250, 3], [3, 3, 250], [130, 120, 6]


def test_accuracy_beside_an_earlier_model_is_by_pairs():
    worse = pair([A] * 100, [C] * 30 + [A] * 70, "a" * 100)
    check = baseline.accuracy(worse, Limits())
    assert check.passed is False and "30 lost and 0 won" in check.found
    assert len(check.details) == 30 and check.details[0] == "0.png: a, was a (good), is c (good)"
    few = pair([A] * 100, [C] + [A] * 99, "a" * 100)
    assert "not shown" in baseline.accuracy(few, Limits()).found
    assert baseline.accuracy(worse, Limits(max_drop=0.5)).passed


def test_photos_of_one_specimen_are_one_beside_an_earlier_model():
    worse = pair([B] * 60, [A] * 15 + [B] * 45, "b" * 60)
    specimens = replace(worse, unit=np.r_[np.zeros(15, int), np.arange(1, 46)])
    for check in (baseline.accuracy, baseline.harmful):
        assert check(worse, Limits()).found.startswith("worse")
        found = check(specimens, Limits())
        assert found.passed and "15 lost" in found.found and "60 photos" in found.found


def test_harmful_beside_an_earlier_model_counts_only_what_is_called_harmless():
    """TORN has another largest output, but is still called harmful."""
    still = pair([B] * 50 + [A] * 50, [TORN] * 50 + [A] * 50, "b" * 50 + "a" * 50)
    assert baseline.accuracy(still, Limits()).passed is False
    check = baseline.harmful(still, Limits())
    assert check.passed and "0 lost" in check.found and "50 photos" in check.found
    missed = pair([B] * 50, [A] * 20 + [B] * 30, "b" * 50)
    check = baseline.harmful(missed, Limits())
    assert check.passed is False and "20 lost" in check.found and len(check.details) == 20


def test_photos_that_become_harmless_are_named_whatever_they_truly_are():
    """Called harmful wrongly and now harmless: better, and still to be looked at."""
    better = pair([B] * 10 + [B], [A] * 10 + [B], "a" * 10 + "b")
    check = baseline.harmful(better, Limits())
    assert check.passed and len(check.details) == 10
    assert baseline.to_harmless(better).tolist() == list(range(10))


def test_not_judged_without_harmful_photos():
    assert baseline.harmful(pair([A], [A], "a"), Limits()).passed is None


def test_what_changed_between_two_files_is_listed(made):
    model = (made / "model.tflite").read_bytes()
    unsure = replace(decided(), threshold_q=99, abstain=Abstain(by="margin", cut_q=3))
    found = baseline.changes(subject(model), subject(model, decision=unsure))
    assert [(change.what, change.was, change.now) for change in found] == [
        ("threshold of 256", "100", "99"),
        ("abstain rule", "none", "margin under 3 of 256"),
    ]


def test_operators_and_their_versions_that_changed_are_listed(monkeypatch):
    versions = {b"was": [("ADD", 1), ("CONV_2D", 3)], b"now": [("CONV_2D", 5), ("SOFTMAX", 2)]}
    monkeypatch.setattr(baseline, "_versions", versions.get)
    monkeypatch.setattr(baseline, "size", {b"was": 100, b"now": 100}.get)
    found = [*baseline.changes(subject(b"was"), subject(b"now"))]
    assert [(change.what, change.was, change.now) for change in found] == [
        ("oldest runtime", "1.14.0", "2.4.0"),
        ("operator ADD", "version 1", "none"),
        ("operator CONV_2D", "version 3", "version 5"),
        ("operator SOFTMAX", "none", "version 2"),
    ]


def test_labels_in_another_order_than_earlier():
    other = replace(CLASSES, labels=("b", "a", "c"), groups=("bad", "good", "good"))
    check = baseline.same_labels(subject(), subject(classes=other))
    assert check.passed is False and check.found == "b, a, c"
    harmless = replace(CLASSES, harmful="good")
    check = baseline.same_labels(subject(), subject(classes=harmless))
    assert check.passed is False and "'good' harmful" in check.found
    assert baseline.same_labels(subject(), subject()).passed


@pytest.mark.parametrize(("size", "passed"), [(90, True), (110, True), (111, False)])
def test_a_model_may_grow_by_a_tenth(monkeypatch, size, passed):
    monkeypatch.setattr(baseline, "size", len)
    found = baseline.no_larger(subject(b"x" * 100), subject(b"x" * size))
    assert found.passed is passed


@pytest.mark.parametrize(
    ("was", "now", "passed"),
    [("2.3.0", "2.14.0", False), ("2.14.0", "2.3.0", True), ("2.3.0", None, False),
     (None, None, True)],
)  # fmt: skip
def test_operators_of_a_newer_runtime_than_earlier(monkeypatch, was, now, passed):
    monkeypatch.setattr(baseline, "needs", {b"was": was, b"now": now}.get)
    assert baseline.no_newer(subject(b"was"), subject(b"now")).passed is passed


def bench_of(interval: list[float] | None, trouble: str | None) -> Any:
    ratio = {"median": 1.2, "interval": interval}
    return lambda *args, **given: {
        "configurations": [{"ratio": None}, {"ratio": ratio, "trouble": trouble}]
    }


@pytest.mark.parametrize(
    ("interval", "trouble", "passed"),
    [([1.15, 1.25], None, False), ([1.05, 1.25], None, True), ([0.5, 0.6], None, True),
     ([1.15, 1.25], "busy", None), (None, "few rounds", None)],
)  # fmt: skip
def test_latency_is_judged_by_the_interval_of_the_ratio(monkeypatch, interval, trouble, passed):
    monkeypatch.setattr("mobileclf.benchmark.bench.bench", bench_of(interval, trouble))
    assert latency(subject(), subject(), 1).passed is passed


def parity(n: int, right: int, changed: tuple[str, ...] = (), harmful: Any = None) -> Any:
    rows = [{"path": path} for path in changed]
    return {"n": n, "int8": {"accuracy": right / n}, "agreement": right / n, "changed": rows,
            "harmful": harmful}  # fmt: skip


def beside(was: Any, now: Any, **limits: float) -> Any:
    return compare(figures_of(was, "was"), figures_of(now, "now"), Limits(**limits))


def test_beside_an_earlier_record_figures_are_compared():
    was, now = parity(200, 190, ("a.jpg",)), parity(200, 160, ("a.jpg", "b.jpg"))
    found, (check, harmful) = beside(was, now)
    assert check.passed is False and check.found.startswith("worse, 160 of 200 beside 190 of 200")
    assert check.details == ("b.jpg",)
    assert harmful.name == "baseline_harmful" and harmful.passed is None
    assert [change.what for change in found] == [
        "right on the test photos", "agreement", "photos with another answer than float's",
    ]  # fmt: skip
    assert beside(was, parity(200, 186))[1][0].found.startswith("not shown")
    assert beside(was, was)[0] == [] and beside(was, was)[1][0].passed


def test_harmful_photos_of_an_earlier_record_are_held_too():
    was = parity(400, 380, harmful={"photos": 200, "int8": 1.0})
    now = parity(400, 380, harmful={"photos": 200, "int8": 0.9})
    found, (accuracy, harmful) = beside(was, now)
    assert accuracy.passed and harmful.passed is False
    assert "180 of 200 beside 200 of 200" in harmful.found
    assert [change.what for change in found] == ["harmful photos not called harmless"]


def test_a_drop_that_is_shown_and_allowed_is_not_worse():
    was, now = parity(10000, 9900), parity(10000, 9830)
    assert beside(was, now)[1][0].passed
    assert not beside(was, now, max_drop=0.003)[1][0].passed


@pytest.mark.parametrize("n", [200, 2000, 20000])
def test_a_true_drop_of_the_limit_is_worse_in_few_draws(n):
    """A drop of exactly 0.01, with 0.025 on either side of the interval."""
    rng = np.random.default_rng(n)
    was, now = rng.binomial(n, 0.90, 1000), rng.binomial(n, 0.89, 1000)
    worse = [
        not beside(parity(n, int(a)), parity(n, int(b)))[1][0].passed
        for a, b in zip(was, now, strict=True)
    ]
    assert np.mean(worse) <= 0.04


def test_the_unpaired_interval_is_newcombes():
    """Newcombe 1998, table II, row 10 of 56/70 against 48/80: 0.0524 to 0.3339."""
    low, high = unpaired.newcombe(56, 70, 48, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(
    "wrong",
    [{"n": -4}, {"n": 0}, {"n": 2.5}, {"int8": {"accuracy": 2.0}}, {"int8": {"accuracy": math.nan}},
     {"changed": [3]}, {"int8": None}, {"harmful": {"photos": 0, "int8": 1.0}}],
)  # fmt: skip
def test_figures_that_are_none_are_refused(wrong):
    with pytest.raises(DataError, match="was: wanted a parity.json"):
        figures_of({**parity(20, 19), **wrong}, "was")


def test_a_record_that_is_none_fails_once(made, photos, tmp_path):
    write_json(tmp_path / "other.json", {"n": 3})
    found = {c.name: c for c in run_all(Gate(made, None, tmp_path / "other.json"))}
    assert found["baseline"].passed is False and "int8" in found["baseline"].found
    rest = [check for name, check in found.items() if name.startswith("baseline_")]
    assert rest and all(check.passed is None for check in rest)
    with pytest.raises(DataError, match="found neither"):
        checks_for(Gate(made, None, tmp_path / "none"))


def test_an_earlier_bundle_that_was_changed_fails_once_and_is_named(made, photos, tmp_path):
    def moved(record: Any) -> None:
        record["decision"] |= {"threshold_q": 101, "threshold": 101 / 256}

    was = rehash(Path(shutil.copytree(made, tmp_path / "was")), moved)
    found = {check.name: check for check in run_all(Gate(made, photos, was))}
    assert found["baseline"].passed is False and str(was) in found["baseline"].found
    assert found["baseline_accuracy"].passed is None
    with pytest.raises(DataError, match="decision"):
        outside(make_settings({"name": "x", "baseline": was}))


def test_the_same_model_has_one_size_with_metadata_and_without(made):
    from mobileclf.tflite import graph, metadata

    model = (made / "model.tflite").read_bytes()
    about, files = metadata.read(model)
    tree = graph.parse(model)
    tree.metadata = []
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), file_identifier=graph.IDENTIFIER)
    bare = bytes(builder.Output())
    again = metadata.write(bare, about, files)
    assert len(again) > len(bare) and baseline.size(again) == baseline.size(bare)


def test_an_operator_that_no_release_is_known_to_have_needs_no_known_runtime(monkeypatch):
    every = {b"known": [("ADD", 1)], b"unknown": [("ADD", 1), ("ADD", 99)]}
    monkeypatch.setattr(baseline, "_versions", every.get)
    assert baseline.needs(b"known") is not None and baseline.needs(b"unknown") is None


def test_the_runs_own_record_is_no_baseline_and_has_no_latency(tmp_path):
    write_json(tmp_path / "parity.json", parity(20, 19))
    own = {"run": tmp_path, "baseline": tmp_path / "parity.json"}
    with pytest.raises(UsageError, match="the one that this run writes"):
        outside(make_settings(own))
    with pytest.raises(UsageError, match="wanted a bundle as --baseline"):
        outside(make_settings({**own, "run": tmp_path / "run", "latency": 5}))
    assert (tmp_path / "parity.json").exists()


def test_a_runtime_that_is_not_installed_is_listed_and_skipped(made, monkeypatch):
    monkeypatch.setattr(checks, "at_hand", lambda runtime: runtime != OLDEST)
    check = outcome_of(Gate(made), "loads[tflite-runtime]")
    assert check.passed is None and check.found == "tflite-runtime is not installed"


def test_a_bundle_beside_an_earlier_record(made, tmp_path):
    write_json(tmp_path / "parity.json", parity(PHOTOS, PHOTOS))
    gate = Gate(made, None, tmp_path / "parity.json")
    assert outcome_of(gate, "baseline_accuracy").passed
    record = read_json(made / "parity.json")
    assert record["int8"]["accuracy"] == 1.0
    write_json(tmp_path / "parity.json", {**parity(PHOTOS, PHOTOS), "verdict": "proven"})
    again = Gate(made, None, tmp_path / "parity.json")
    assert [c.what for c in checks.changes(again)] == ["verdict"]


# Fisher's test


def slow_fewer(right: int, n: int, own_right: int, own_n: int) -> float:
    """The shares of all ways to choose which photos are the n, counted."""
    whole, good = n + own_n, right + own_right
    ways = [math.comb(good, k) * math.comb(whole - good, n - k) for k in range(right + 1)
            if n - k <= whole - good]  # fmt: skip
    return sum(ways) / math.comb(whole, n)


def test_fewer_equals_a_slow_oracle():
    for n, own_n in ((1, 1), (5, 8), (12, 7)):
        for right in range(n + 1):
            for own in range(own_n + 1):
                assert fewer(right, n, own, own_n) == pytest.approx(
                    slow_fewer(right, n, own, own_n)
                )
    assert fewer(0, 0, 5, 5) == fewer(5, 5, 0, 0) == 1.0


def test_fewer_fails_no_more_often_than_stated_and_the_naive_test_does():
    from scipy.stats import binom

    rng, shares = np.random.default_rng(0), 0.9
    new, own = rng.binomial(150, shares, 1500), rng.binomial(150, shares, 1500)
    rate = np.mean([fewer(a, 150, b, 150) <= RISK for a, b in zip(new, own, strict=True)])
    assert 0.01 < rate <= RISK
    naive = np.mean(binom.cdf(new, 150, own / 150) <= RISK)
    assert naive > 0.08


# Reports

NASTY = 'a|b<c>\x1b[31m\n&"`*_\ud800.jpg'
CHECKS = [
    Check(name="one", passed=True, wanted="w", found="f"),
    Check(name="two", passed=False, wanted=NASTY, found="f",
          details=tuple(f"{NASTY} {i}" for i in range(25))),
    Check(name="three", passed=None, wanted="w", found="no runtime"),
]  # fmt: skip


def test_the_summary_holds_every_check_and_no_name_is_markup():
    text = markdown(NASTY, CHECKS, [baseline.Change(what="size", was="1", now="2")])
    lines = text.splitlines()
    assert lines[0].endswith(": 1 check of 3 failed")
    rows = [line for line in lines if line.startswith("| ")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows[:5]] == [5] * 5
    assert len([line for line in lines if line.startswith("- ")]) == MOST_DETAILS + 1
    assert "and 5 more" in text and "\x1b" not in text and "<c>" not in text
    assert "| size | 1 | 2 |" in text
    text.encode()
    assert markdown("x", CHECKS[:1]).startswith("## x: passed\n")


def test_junit_reads_back_whatever_names_hold():
    top = ElementTree.fromstring(junit(NASTY, CHECKS))
    (suite,) = top
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    assert [case.get("name") for case in suite] == ["one", "two", "three"]
    assert [[part.tag for part in case] for case in suite] == [[], ["failure"], ["skipped"]]
    assert "found f" in str(suite[1][0].get("message"))
    assert str(suite[1][0].text).count("\n") == 24


def test_the_reports_of_a_run_hold_its_gates_and_what_changed(tmp_path):
    parity = {
        "gates": [CHECKS[0].as_gate(), CHECKS[1].as_gate()],
        "baseline": {"changes": [{"what": "size", "was": "1", "now": "2"}]},
    }
    settings = make_settings(
        {"name": "x", "junit": tmp_path / "a" / "j.xml", "markdown": tmp_path / "m.md"}
    )
    write_reports(settings, parity, None)
    (suite,) = ElementTree.parse(tmp_path / "a" / "j.xml").getroot()
    assert [case.get("name") for case in suite] == ["one", "two"]
    text = (tmp_path / "m.md").read_text()
    assert "1 check of 2 failed" in text and "| size | 1 | 2 |" in text
    write_reports(make_settings({"name": "x"}), parity, None)  # nothing asked for, nothing written
    assert len(list(tmp_path.iterdir())) == 2


def test_a_stage_hangs_on_the_baseline_by_content(made, tmp_path):
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    both = [make_settings({"name": "x", "baseline": path}) for path in (made, copy)]
    assert outside(both[0]) == outside(both[1]) != {}
    rehash(copy, lambda record: record.update(name="other"))
    assert outside(both[0]) != outside(both[1])
    assert outside(make_settings({"name": "x"})) == {}


def test_gates_of_a_record_are_checks():
    gate = CHECKS[1].as_gate()
    assert list(gate) == ["gate", "passed", "wanted", "found"]
    (back,) = of_gates({"gates": [gate]})
    assert back == replace(CHECKS[1], details=())


def test_not_sure_is_not_missed():
    torn = [100, 90, 66]  # called harmless under 95, unless that is not sure enough
    real = judged(CLASSES, decided(95), np.array([torn, B]), ("b", "b"))
    assert real.missed is not None and real.missed.tolist() == [True, False]
    unsure = Decision(
        group="bad", threshold_q=95, kernel_bound=2, abstain=Abstain(by="largest", cut_q=120)
    )
    found = judged(CLASSES, unsure, np.array([torn, B]), ("b", "b"))
    assert found.verdicts == (NOT_SURE, "bad")
    assert found.missed is not None and not found.missed.any()


def test_a_demo_is_judged_as_what_it_would_be():
    """It calls nothing harmless, so that otherwise nothing could be seen."""
    demo = Decision(group="bad", threshold_q=100, kernel_bound=2, purpose="demo")
    found = judged(CLASSES, demo, np.array([A, B]), ("b", "b"))
    assert found.verdicts == (NOT_SURE, "bad")
    assert found.missed is not None and found.missed.tolist() == [True, False]


def test_the_oldest_runtime_is_held_to_only_where_it_is_promised(made, monkeypatch):
    from mobileclf.tflite import delegates

    refused = delegates.Loaded(runtime="tflite-runtime 2.14.0", loads=False, reason="too new")
    monkeypatch.setattr(delegates, "load", lambda *args, **given: [refused])
    gate = Gate(made)
    check = partial(checks.loads, runtime=OLDEST)
    assert run("loads", check, gate).passed is False
    monkeypatch.setitem(gate.record["model"], "min_runtime", None)
    assert run("loads", check, gate).passed is None


def test_the_page_on_ci_says_from_how_many_photos_on_a_check_fails():
    said = re.search(
        r"missed (\d+) of (\d+) harmful.*?beside (\d+) of (\d+) right.*?\.\n", CI, re.S
    )
    assert said is not None
    own_missed, own_n, own_right, other_n = map(int, said.groups())
    told = [int(number) for number in re.findall(r"(?:from|, 100 from|, 400 from) (\d+)", said[0])]

    def first(n: int, bad: int, of: int) -> int:
        return next(k for k in range(n + 1) if fewer(n - k, n, of - bad, of) <= RISK)

    assert told == [
        *(first(n, own_missed, own_n) for n in (50, 100, 400)),
        *(first(n, other_n - own_right, other_n) for n in (50, 100, 400)),
    ]


@pytest.mark.parametrize(
    "change",
    [
        *({"n": n} for n in (0, -4, 2.5, None)),
        *({"int8": {"accuracy": share}} for share in (2.0, -0.1, math.nan, None)),
        {"guarantee": {"most": math.nan}},
        {"decision": {"missed": -1, "caught": 3, "harmful_not_sure": 0}},
        {"decision": {"missed": 1}},
    ],
)
def test_a_bundle_with_metrics_that_are_none_fails_its_files(bundle, change):
    record = read_json(bundle / "bundle.json")
    record["metrics"] |= change
    (bundle / "bundle.json").write_text(json.dumps(record))
    assert failed(Gate(bundle)) == {"files"}


def test_a_bundle_whose_hashes_leave_a_file_out_fails_its_files(bundle):
    record = read_json(bundle / "bundle.json")
    for name in ("labels.txt", "golden/0.png"):
        files = {key: value for key, value in record["files"].items() if key != name}
        write_json(bundle / "bundle.json", {**record, "files": files})
        check = outcome_of(Gate(bundle), "files")
        assert check.passed is False and name in check.found


def test_counts_that_are_none_have_no_p():
    for counts in ((5, 4, 1, 2), (-1, 4, 1, 2), (1, 4, 3, 2), (math.nan, 4, 1, 2)):
        with pytest.raises(ValueError, match="counts"):
            fewer(*counts)


def test_a_baseline_that_is_none_leaves_the_runs_own_record(tmp_path):
    own = tmp_path / "run" / "parity.json"
    write_json(own, parity(10, 9))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    write_json(tmp_path / "other.json", {"n": 3})
    said = {"name": "x", "run": own.parent}
    for baseline_path, error in (
        (broken, DataError), (tmp_path / "other.json", DataError), (tmp_path / "none", DataError),
        (own, UsageError), (own.parent / ".." / "run" / "parity.json", UsageError),
    ):  # fmt: skip
        settings = make_settings({**said, "baseline": baseline_path})
        with pytest.raises(error):
            bring_up_to_date(STAGE, settings)
        assert read_json(own) == parity(10, 9)


def test_photos_that_are_none_fail_once(made, tmp_path):
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "none", tmp_path / "empty"):
        found = {check.name: check for check in run_all(Gate(made, data, made))}
        assert {name for name, check in found.items() if check.passed is False} == {"photos"}
        assert str(data) in found["photos"].found
        skipped = ("accuracy", "harmful", "baseline_accuracy", "baseline_harmful")
        assert all(found[name].found == "not run: photos failed" for name in skipped)
        assert found["baseline_size"].passed


def test_a_golden_picture_that_cannot_be_read_is_named(bundle):
    (bundle / "golden" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    check = outcome_of(Gate(rehash(bundle)), "golden")
    assert check.passed is False and str(bundle / "golden" / "1.png") in check.found


def test_classes_without_photos_are_named(made, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "all")
    shutil.rmtree(tmp_path / "all" / "a")
    own = rehash(Path(shutil.copytree(made, tmp_path / "small")), with_promise)
    gate = Gate(own, tmp_path / "all")
    assert outcome_of(gate, "accuracy").found.endswith("; no photo of a")
    assert outcome_of(gate, "photos").found.endswith("; no photo of a")
    assert "no photo" not in outcome_of(gate, "harmful").found  # `a` is harmless
    assert "no photo" not in outcome_of(Gate(made, photos), "accuracy").found


def with_promise(record: Any) -> None:
    record["metrics"]["guarantee"] = {"most": 0.05}
