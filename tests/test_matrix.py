"""Every variant on every runtime: same bytes where they are promised, and a reason where not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from mobileclf.matrix import MATRIX, TIMES, latency
from mobileclf.matrix import build as module
from mobileclf.matrix.build import build
from mobileclf.matrix.entries import (
    MOST,
    OF_SLOW,
    OF_THREADS,
    Entry,
    Result,
    Variant,
    arithmetic_of,
    entries_of,
    evenly_first,
    family_of,
)
from mobileclf.matrix.identity import FLOAT_BOUND, alike, identity, same_bytes
from mobileclf.models import deploy, qat
from mobileclf.records import read_json, write_csv, write_json
from mobileclf.report import matrix as report
from mobileclf.settings import Settings
from mobileclf.tflite.interpreter import open_interpreter, scores
from mobileclf.tflite.runtimes import OLDEST, at_hand
from tests.models import LABELS, photos, tiny_float, tiny_graph, tiny_int8, tiny_network
from tests.test_graph import KINDS

LITERT = "ai-edge-litert"
PHOTOS = 20
needs_the_oldest = pytest.mark.skipif(
    not at_hand(OLDEST), reason="tflite-runtime exists for Python < 3.12 on Linux"
)


# What is asked for


@pytest.mark.parametrize("n", [1, 5, 16, 17, 48, 100, 1000, 5000])
def test_the_first_photos_are_spread_over_all(n):
    found = evenly_first(n)
    assert len(set(found.tolist())) == len(found) == min(n, MOST)
    for many in (min(n, OF_SLOW), min(n, OF_THREADS)):
        # But for rounding to photos that are among the others, too.
        from_even = np.abs(np.sort(found[:many]) - np.linspace(0, n - 1, many))
        assert from_even.max() <= 1 + n / OF_THREADS / 2
    assert found.min() == 0 and found.max() == n - 1
    assert evenly_first(n, 4).tolist() == sorted(evenly_first(n, 4).tolist())
    assert evenly_first(n, 4)[[0, -1]].tolist() == [0, n - 1]


def variant(name: str = "a", arithmetic: str = "integers", quanta: bool = True) -> Variant:
    return Variant(name=name, file=Path("x"), quanta=quanta, arithmetic=arithmetic)


def test_each_runtime_kernels_and_threads_is_an_entry():
    found = entries_of([variant("int8"), variant("int16x8")], [LITERT, OLDEST], 100)
    assert len(found) == len(set(found)) == 2 * 2 * 3 * 2
    photos_of = {(e.variant.name, e.kernels, e.threads): e.photos for e in found}
    assert photos_of["int8", "xnnpack", 1] == photos_of["int8", "builtin", 1] == 100
    assert photos_of["int8", "xnnpack", 2] == OF_THREADS
    assert photos_of["int8", "reference", 1] == photos_of["int16x8", "xnnpack", 1] == OF_SLOW
    assert {e.photos for e in entries_of([variant()], [LITERT], 7)} == {7}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("int8", "integers"),
        ("int8 with float ends", "integers"),
        ("int16x8", "integers"),
        ("float32", "float"),
        ("float16 weights", "float"),
        ("dynamic range", "hybrid"),
    ],
)
def test_what_a_file_calculates_in_is_read_from_it(kind, wanted):
    assert arithmetic_of(KINDS[kind]()) == wanted


# What must be the same


def result(
    scores: object,
    *,
    runtime: str = LITERT,
    kernels: str = "xnnpack",
    threads: int = 1,
    delegates: int | None = 1,
    of: Variant | None = None,
) -> Result:
    """An entry whose answers to some photos are `scores`."""
    entry = Entry(
        variant=of or variant(), runtime=runtime, kernels=kernels, threads=threads, photos=9
    )
    found = None if scores is None else np.asarray(scores)
    return Result(entry=entry, scores=found, delegates=delegates, problem=None)


QUANTA = np.array([[250, 6], [10, 246]], np.uint8)
OFF = QUANTA + np.array([[1, 0], [0, 0]], np.uint8)


def passes(*results: Result) -> list[bool]:
    return [row["passed"] for row in identity(results)]


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("other", [{"threads": 2}, {"runtime": "tensorflow"}])
def test_integers_of_one_family_are_held_to_the_byte(kernels, other):
    one = result(QUANTA, kernels=kernels)
    assert passes(one, result(QUANTA, kernels=kernels, **other)) == [True]
    assert passes(one, result(OFF, kernels=kernels, **other)) == [False]
    (row,) = identity([one, result(OFF, kernels=kernels, **other)])
    assert (row["largest_difference"], row["bound"], row["photos"]) == (1, 0, 2)
    assert f"a on {kernels} kernels: ai-edge-litert, {kernels}, 1 thread against " in row["what"]


def test_of_old_kernels_only_those_of_xnnpack_are_promised():
    old = {"runtime": OLDEST, "kernels": "builtin", "delegates": 0}
    one, xnnpack = result(QUANTA, kernels="builtin"), result(QUANTA)
    (row,) = identity([one, result(OFF, **old)])
    assert row["passed"] and row["bound"] is None and row["largest_difference"] == 1
    # But they are what they are on any number of threads.
    assert passes(one, result(OFF, **old), result(OFF, **old, threads=2)) == [True, True]
    assert passes(one, result(OFF, **old), result(QUANTA, **old, threads=2)) == [True, False]
    assert passes(xnnpack, result(OFF, runtime=OLDEST)) == [False]


def test_families_are_what_ran_and_not_what_was_asked_for():
    taken_by_none = result(OFF, delegates=0)
    assert family_of(taken_by_none) == "builtin"
    assert passes(taken_by_none, result(OFF, kernels="builtin", delegates=0)) == [True]
    assert passes(taken_by_none, result(QUANTA, kernels="builtin", delegates=0)) == [False]
    # What a delegate takes in other parts is another mixture of kernels.
    assert passes(result(QUANTA), result(OFF, delegates=7), result(OFF, delegates=None)) == []
    assert passes(result(QUANTA), result(OFF, kernels="reference")) == []
    assert passes(result(QUANTA), result(OFF, of=variant("b"))) == []


def test_floats_are_held_to_the_byte_where_they_are_summed_in_one_order():
    exact = np.array([[0.25, 0.75]], np.float32)
    near, far = exact + np.float32(FLOAT_BOUND / 2), exact + np.float32(FLOAT_BOUND * 2)
    of = variant("float32", "float", quanta=False)
    two = {"threads": 2, "of": of}
    assert passes(result(exact, of=of), result(exact, **two)) == [True]
    assert passes(result(exact, of=of), result(near, **two)) == [False]
    one = result(exact, of=of, kernels="builtin")
    assert passes(one, result(near, **two, kernels="builtin")) == [True]
    assert passes(one, result(far, **two, kernels="builtin")) == [False]
    assert passes(one, result(exact * np.nan, **two, kernels="builtin")) == [False]
    assert passes(result(exact, of=of), result(near, of=of, runtime=OLDEST)) == [True]
    assert passes(result(exact, of=of), result(far, of=of, runtime=OLDEST)) == [False]
    zero = np.array([[0.0]], np.float32)
    assert not same_bytes(result(zero), result(-zero))
    assert passes(result(zero, of=of), result(-zero, **two)) == [False]


def test_half_float_models_are_held_more_loosely_but_held():
    one = np.array([[0.25, 0.75]], np.float32)
    of = variant("dynamic", "hybrid", quanta=False)
    other = {"of": of, "runtime": "tensorflow"}
    assert passes(result(one, of=of), result(one + np.float32(0.005), **other)) == [True]
    assert passes(result(one, of=of), result(one + np.float32(0.02), **other)) == [False]
    mixed = variant("mixed", "hybrid")
    other["of"] = mixed
    assert passes(result(QUANTA, of=mixed), result(OFF, **other)) == [True]
    assert passes(result(QUANTA, of=mixed), result(OFF + np.uint8(1), **other)) == [False]


def test_those_with_fewer_photos_are_compared_on_theirs():
    many = np.concatenate([QUANTA, OFF])
    assert passes(result(many), result(QUANTA, threads=2)) == [True]
    assert passes(result(many), result(OFF, threads=2)) == [False]


def test_what_is_alike_is_named_across_families():
    rows = [result(QUANTA), result(None), result(OFF, kernels="builtin"),
            result(QUANTA, kernels="reference"), result(QUANTA, of=variant("b"))]  # fmt: skip
    assert alike(rows) == [None, None, None, "ai-edge-litert, xnnpack, 1 thread", None]


# The whole


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of small models and drawn photos, on the runtimes that start fast."""
    names = [f"c{i}" for i in range(LABELS)]
    write_json(tmp_path / "dataset.json", {"labels": [{"label": n, "group": None} for n in names]})
    rows = [
        {"path": f"{i}.png", "label": names[i % LABELS], "group": "", "split": "test",
         "sha256": f"{i:064}", "problem": "", "unit": i}
        for i in range(PHOTOS)
    ]  # fmt: skip
    write_csv(tmp_path / "dataset.csv", list(rows[0]), rows)
    files = {"float32": tiny_float(), "dynamic": KINDS["dynamic range"](), "ours": tiny_int8()}
    for name, data in files.items():
        (tmp_path / f"model_{name}.tflite").write_bytes(data)
    write_json(tmp_path / "convert.json", {
        "candidates": [{"candidate": "ours", "file": "model_ours.tflite"}],
        "others": [{"variant": n, "file": f"model_{n}.tflite"} for n in ("float32", "dynamic")],
    })  # fmt: skip
    write_json(tmp_path / "quantize.json", {"candidates": ["ours"], "mixed": None})
    np.savez(tmp_path / "ours.npz", **qat.weights_of(tiny_graph()))
    (tmp_path / "scores").mkdir()
    # Not of the small network, so that enough answers differ.
    drawn = np.random.default_rng(1).dirichlet(np.ones(LABELS), PHOTOS).astype(np.float32)
    np.save(tmp_path / "scores/float.test.npy", drawn)
    monkeypatch.setattr(module, "installed", lambda: [r for r in (LITERT, OLDEST) if at_hand(r)])
    monkeypatch.setattr(
        module, "load_photos", lambda folder, settings, part, title: given()[numbers(part)]
    )
    monkeypatch.setattr(
        deploy, "deployable", lambda folder, without: SimpleNamespace(graph=tiny_network())
    )
    return tmp_path


def given() -> np.ndarray:
    return photos(PHOTOS)


def numbers(part) -> list[int]:
    return [int(path.removesuffix(".png")) for path in part.paths]


@needs_the_oldest
def test_the_matrix_of_small_models(run):
    record = build(run, Settings(), seconds=0)
    assert record == read_json(run / MATRIX) and not (run / TIMES).exists()
    assert record["absent"] == {"runtimes": ["tensorflow"], "variants": ["fp16", "int16x8"]}
    rows = {(r["variant"], r["runtime"], r["kernels"], r["threads"]): r for r in record["entries"]}
    assert len(rows) == 2 + 3 * 2 * 3 * 2
    assert all(pair["passed"] for pair in record["identity"])
    assert {pair["bound"] for pair in record["identity"]} >= {0, None}
    # What the old runtime cannot take, by its own words.
    problem = rows["dynamic", OLDEST, "xnnpack", 1]["problem"]
    assert "FULLY_CONNECTED" in problem and "version '12'" in problem
    # What ran is in the record: tflite-runtime has no XNNPACK for int8.
    assert rows["ours", LITERT, "xnnpack", 1]["family"] == "xnnpack"
    assert rows["ours", OLDEST, "xnnpack", 1]["family"] == "builtin"
    assert rows["ours", LITERT, "xnnpack", 2]["identical_to"] == f"{LITERT}, xnnpack, 1 thread"
    assert rows["ours", LITERT, "xnnpack", 1]["bytes"] == len(tiny_int8())
    _figures_are_right(rows, np.load(run / "scores/float.test.npy").argmax(axis=1).tolist())
    assert build(run, Settings(), seconds=0) == record


def _figures_are_right(rows, before: list[int]) -> None:
    """Counted photo by photo, in the order of the file."""
    truth = [i % LABELS for i in range(PHOTOS)]
    after = scores(open_interpreter(tiny_int8()), given()).argmax(axis=1).tolist()
    triples = list(zip(truth, before, after, strict=True))
    row = rows["ours", LITERT, "xnnpack", 1]
    assert row["photos"] == PHOTOS
    assert row["accuracy"] == sum(t == a for t, _, a in triples) / PHOTOS
    assert row["agreement"] == sum(b == a for _, b, a in triples) / PHOTOS
    assert row["lost"] == sum(t == b != a for t, b, a in triples)
    assert row["won"] == sum(t == a != b for t, b, a in triples)
    assert row["lost"] != row["won"] and min(row["lost"], row["won"]) > 0
    first = sorted(evenly_first(PHOTOS)[:OF_SLOW])
    assert rows["ours", LITERT, "reference", 1]["photos"] == OF_SLOW < PHOTOS
    few = scores(open_interpreter(tiny_int8(), kernels="reference"), given()[first])
    right = few.argmax(axis=1) == np.array(truth)[first]
    assert rows["ours", LITERT, "reference", 1]["accuracy"] == right.mean()
    keras = rows["float", "tensorflow", "keras", None]
    assert (keras["agreement"], keras["lost"], keras["won"]) == (1, 0, 0)
    aware = qat.forward(tiny_graph(), given()).argmax(axis=1)
    found = rows["ours", "tensorflow", "keras", None]["agreement"]
    assert found == np.mean(aware == np.array(before))


def test_a_model_that_was_given_has_no_keras_graph_to_show(run, monkeypatch):
    write_json(run / "quantize.json", {"candidates": [], "mixed": None})
    monkeypatch.setattr(deploy, "deployable", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(module, "_scored", lambda wanted, photos: [])
    record = build(run, Settings(), most=5, seconds=0)
    assert [row["variant"] for row in record["entries"]] == ["float"]
    assert record["photos"] == record["entries"][0]["photos"] == 5


def test_latencies_are_ratios_to_float32_on_litert(run, monkeypatch):
    monkeypatch.setattr(module, "installed", lambda: [LITERT])
    monkeypatch.setattr(latency, "SLICE", 0.01)
    build(run, Settings(), most=2, seconds=0.1)
    times = read_json(run / TIMES)
    assert times["problem"] is None
    assert times["reference"] == {
        "variant": "float32", "runtime": LITERT, "kernels": "xnnpack", "threads": 1
    }  # fmt: skip
    ratios = {(r["variant"], r["kernels"], r["threads"]): r["ratio"] for r in times["rows"]}
    assert ratios.pop(("float32", "xnnpack", 1)) is None
    assert {kernels for _, kernels, _ in ratios} == {"xnnpack", "builtin"}
    assert all(ratio > 0 for ratio in ratios.values())
    assert not {"times", "median_ms", "ratio"} & set(str(read_json(run / MATRIX)).split("'"))


def test_a_runtime_that_stops_costs_the_latencies_alone(monkeypatch):
    class Dead:
        def __init__(self, runtime: str) -> None: ...
        def __enter__(self) -> Dead:
            return self

        def __exit__(self, *_: object) -> None: ...
        def ask(self, **_: object) -> dict[str, object]:
            return {"problem": "its process was ended by SIGSEGV"}

    monkeypatch.setattr(latency, "Child", Dead)
    found = latency.measured([result(QUANTA), result(OFF, threads=2)], seconds=1, seed=0)
    assert found["rows"] == [] and "SIGSEGV" in found["problem"]


# The table


def entry(kernels: str, threads: int | None, same: str | None = None, **other: object) -> dict:
    return {
        "variant": "ours", "runtime": LITERT, "kernels": kernels, "threads": threads,
        "bytes": 1_500_000, "family": kernels, "delegates": 1, "photos": 50, "accuracy": 0.94,
        "agreement": 0.98, "lost": 1, "won": 2, "identical_to": same, **other,
    }  # fmt: skip


RECORD = {
    "part": "test",
    "photos": 50,
    "runtimes": ["ai-edge-litert 9.1"],
    "entries": [
        entry("keras", None, variant="float", runtime="tensorflow", bytes=None),
        entry("xnnpack", 1),
        entry("xnnpack", 2, f"{LITERT}, xnnpack, 1 thread"),
        entry("builtin", 1),
        entry("builtin", 2),
        entry("xnnpack", 1, f"{LITERT}, xnnpack, 1 thread", runtime="tensorflow"),
        entry("builtin", 1, runtime="tensorflow"),
        *(
            {"variant": "dynamic", "runtime": OLDEST, "kernels": kernels, "threads": 1,
             "bytes": 100_000, "problem": "no | such operator"}
            for kernels in ("xnnpack", "builtin")
        ),
    ],
    "identity": [
        {"what": "a", "photos": 5, "largest_difference": 0, "bound": 0, "passed": True},
        {"what": "b", "photos": 5, "largest_difference": 3, "bound": 0, "passed": False},
        {"what": "c", "photos": 5, "largest_difference": 9, "bound": None, "passed": True},
    ],
    "absent": {"runtimes": ["tensorflow"], "variants": ["fp16"]},
}  # fmt: skip
TIMED = {
    "machine": {"cpu": "a CPU"},
    "reference": {"variant": "ours", "runtime": LITERT, "kernels": "xnnpack", "threads": 1},
    "problem": None,
    "rows": [
        {"variant": "ours", "runtime": LITERT, "kernels": "xnnpack", "threads": threads,
         "ratio": ratio, "trouble": trouble}
        for threads, ratio, trouble in ((1, None, None), (2, 0.512, "wide"))
    ],
}  # fmt: skip


def test_one_row_stands_for_threads_and_tensorflow_with_the_same_outputs():
    rows = report.rows(RECORD, TIMED)
    assert [row[:4] for row in rows] == [
        ("float", "tensorflow", "keras", None),
        ("ours", f"{LITERT}, tensorflow", "xnnpack", "1, 2"),
        ("ours", LITERT, "builtin", "1"),
        ("ours", LITERT, "builtin", "2"),
        ("ours", "tensorflow", "builtin", "1"),
        ("dynamic", OLDEST, "–", None),
    ]
    assert rows[1][4:] == (50, "94.0 %", "98.0 %", "1 / 2", "1.00, ~0.51", "1.5")
    assert rows[5][5] == "cannot: no | such operator"


def test_the_notes_say_what_failed_and_what_is_not_there():
    notes = "\n".join(report.notes(RECORD, TIMED))
    assert "1 of 2 pairs that must be the same bytes are" in notes
    assert "FAILED: b: 3 apart on 5 photos, wanted at most 0" in notes
    assert "on ai-edge-litert 9.1" in notes
    assert "not installed: tensorflow" in notes and "not converted: fp16 (--fp16)" in notes
    assert "latency: to ours on ai-edge-litert, xnnpack, 1 thread, on a CPU" in notes


def test_markdown_is_a_table_and_the_screen_shows_the_same():
    lines = report.markdown(RECORD, None).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 6
    assert {line.replace("\\|", "").count("|") for line in table} == {len(report.COLUMNS) + 1}
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.show(RECORD, TIMED))
    shown = console.export_text()
    assert "1.00, ~0.51" in shown and "FAILED: b" in shown
