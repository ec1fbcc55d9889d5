"""The whole chain, small: complete, repeatable, going on after a kill, and refusing."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mobileclf
from mobileclf import pipeline, run
from mobileclf.config import make_settings
from mobileclf.decision import NOT_SURE
from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.images import sample
from mobileclf.records import read_csv, read_json, write_json
from mobileclf.report import stages as tables

CLASSES, PER_CLASS = 4, 60
DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
INCEPTION = DATA / "weights" / "inception_v3_imagenet_notop.h5"
QUICK = {
    "backbone": "small_cnn",
    "image_size": 48,
    "epochs": 20,
    "patience": 20,
    "batch_size": 8,
    "harmful": "NotEdible",
    "name": "small",
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Drawn mushrooms of four classes that are easy to tell apart at 48 pixels."""
    everything = tmp_path_factory.mktemp("drawn") / "all"
    sample.write_sample(everything, per_class=PER_CLASS)
    for folder in sorted(everything.iterdir())[1::2]:
        shutil.rmtree(folder)
    return everything


@pytest.fixture(scope="session")
def exported(photos, tmp_path_factory):
    """One export: the run's folder and the bundle's."""
    folder = tmp_path_factory.mktemp("exported")
    mobileclf.export(int8=True, data=photos, run=folder / "run", out=folder / "out", **QUICK)
    return folder / "run", folder / "out" / "small"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_stage_has_a_table_of_its_own(exported, capsys):
    """Of a real run: a key that a record does not have would end in a defect."""
    settings = make_settings({"run": exported[0], "name": "small"})
    shown = set()
    for stage in pipeline.STAGES:
        tables.show(settings, stage)
        shown.add(capsys.readouterr().out)
    assert len(shown) == len(pipeline.STAGES) and all(len(text) > 100 for text in shown)


def test_the_bundle_is_complete_and_hashes_hold(exported):
    _, bundle = exported
    record = read_json(bundle / "bundle.json")
    files = contents(bundle)
    assert set(files) == {*record["files"], "model.tflite", "bundle.json"}
    assert {"labels.txt", "parity.json", "report.html", "MODEL_CARD.md"} <= set(record["files"])
    assert record["model"]["sha256"] == digest(files["model.tflite"])
    for name, entry in record["files"].items():
        assert entry["sha256"] == digest(files[name])
        assert entry["runtime"] == (name == "labels.txt" or name.startswith("golden/"))
    assert files["labels.txt"].decode().splitlines() == [r["label"] for r in record["labels"]]
    assert record["input"]["dtype"] == "uint8" and record["input"]["scale"] == 1.0
    assert record["output"] == {
        "dtype": "uint8", "scale": 1 / 256, "zero_point": 0, "kernels": "xnnpack",
    }  # fmt: skip
    assert [g["harmful"] for g in record["groups"] if g["group"] == "NotEdible"] == [True]
    assert record["provenance"]["run_sha256"]


def test_golden_cases_hold_every_verdict_and_repeat(exported):
    _, bundle = exported
    record = read_json(bundle / "bundle.json")
    cases = record["golden"]
    assert len(cases) >= 4
    assert {case["verdict"] for case in cases} == {"Edible", "NotEdible"}
    assert {Path(case["image"]).suffix for case in cases} == {".jpg", ".png"}
    rows = mobileclf.predict(bundle, [bundle / case["image"] for case in cases])
    for row, case in zip(rows, cases, strict=True):
        assert (row["label"], row["verdict"]) == (case["label"], case["verdict"])
        assert row["score"] * 256 == max(case["output"])


def test_predict_applies_the_decision_of_the_bundle(exported, photos):
    """Against ten lines of plain interpreter, sum and comparison."""
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image, ImageOps

    _, bundle = exported
    record = read_json(bundle / "bundle.json")
    engine = Interpreter(model_path=str(bundle / "model.tflite"))
    engine.allocate_tensors()
    rows = mobileclf.predict(bundle, photos)
    assert len(rows) == CLASSES * PER_CLASS
    harmful = [i for i, row in enumerate(record["labels"]) if row["group"] == "NotEdible"]
    for row in rows[::7]:
        image = ImageOps.exif_transpose(Image.open(row["path"])).convert("RGB")
        size = (record["input"]["width"], record["input"]["height"])
        image = image.resize((size[0], image.height), 2).resize(size, 2)
        engine.set_tensor(engine.get_input_details()[0]["index"], np.asarray(image)[None])
        engine.invoke()
        output = engine.get_tensor(engine.get_output_details()[0]["index"])[0]
        total = int(output[harmful].astype(int).sum())
        assert row["group_score"] * 256 == total
        is_harmful = total >= record["decision"]["threshold_q"]
        assert row["verdict"] == ("NotEdible" if is_harmful else "Edible")
    assert {row["verdict"] for row in rows} == {"Edible", "NotEdible"}


def test_twice_from_nothing_gives_the_same_bundle(exported, photos, tmp_path):
    again = mobileclf.export(
        int8=True, data=photos, run=tmp_path / "run", out=tmp_path / "out", **QUICK
    )
    assert contents(tmp_path / "out" / "small") == contents(exported[1])
    assert again == read_json(exported[0] / "bundled.json")


def test_a_second_export_does_nothing_again(exported, photos):
    folder, bundle = exported
    before = contents(bundle)
    settings = pipeline.settings_for({**QUICK, "data": photos, "run": folder}, "export")
    for name in pipeline.STAGES:
        stage = pipeline.stage(name)
        assert run.is_current(stage, settings, run.inputs_of(stage, settings)), name
    mobileclf.export(int8=True, data=photos, run=folder, out=bundle.parent, **QUICK)
    assert contents(bundle) == before


class Killed(BaseException):
    """Not an Exception: nothing on the way may handle it."""


def test_killed_after_each_stage_it_goes_on_to_the_same_bundle(
    exported, photos, tmp_path, monkeypatch
):
    """The stage's files are written, its record is not: as after kill -9 just then."""
    target = tmp_path / "out" / "small"
    options = dict(QUICK, data=photos, run=tmp_path / "run", out=tmp_path / "out")
    write = run.write_json
    for name in pipeline.STAGES:
        record = pipeline.stage(name).record

        def killed(path, value, record=record):
            if path.name == record:
                raise Killed
            write(path, value)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(run, "write_json", killed)
            mobileclf.export(int8=True, **options)
        assert not target.exists()
        times = read_json(tmp_path / "run" / "times.json") if name != "dataset" else {}
        done = [
            stage for stage in times if stage in pipeline.STAGES
        ]  # train's phases stand there too
        assert done == list(pipeline.STAGES[: pipeline.STAGES.index(name)])
    mobileclf.export(int8=True, **options)
    assert contents(target) == contents(exported[1])


def test_killed_from_outside_it_goes_on_to_the_same_bundle(exported, photos, tmp_path):
    """kill -9 in the middle of training."""
    settings = dict(QUICK, data=str(photos), run=str(tmp_path / "run"), out=str(tmp_path / "out"))
    flags = [part for k, v in settings.items() if k != "data" for part in
             (f"--{k.replace('_', '-')}", str(v))]  # fmt: skip
    command = [sys.executable, "-m", "mobileclf", "export", "--int8", "--data", str(photos), *flags]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("train …"):
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "small").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "dataset: up to date" in done.stderr
    assert contents(tmp_path / "out" / "small") == contents(exported[1])


def test_a_model_that_learnt_nothing_does_not_ship(photos, tmp_path):
    """Labels shuffled: every picture in a folder drawn by lot."""
    rng = np.random.default_rng(0)
    pictures = sorted(photos.rglob("*.jpg"))
    folders = [path.parent.name for path in pictures]
    for i, (path, folder) in enumerate(zip(pictures, rng.permutation(folders), strict=True)):
        target = tmp_path / "data" / str(folder) / f"{i}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with pytest.raises(ProofError, match="learnt|class"):
        mobileclf.export(
            int8=True, data=tmp_path / "data", run=tmp_path / "run", out=tmp_path / "out",
            **{**QUICK, "epochs": 3},
        )  # fmt: skip
    assert not (tmp_path / "out" / "small").exists()


def test_two_labels_swapped_in_a_bundle_are_caught(exported, photos, tmp_path):
    bundle = tmp_path / "swapped"
    shutil.copytree(exported[1], bundle)
    record = read_json(bundle / "bundle.json")
    labels = record["labels"]
    labels[0], labels[-1] = labels[-1], labels[0]
    write_json(bundle / "bundle.json", record)
    with pytest.raises(DataError, match="labels"):
        mobileclf.predict(bundle, photos)


def nudge_threshold(record):
    """By one step: no golden case lies so near."""
    own = record["decision"]
    own.update(threshold_q=own["threshold_q"] + 1, threshold=(own["threshold_q"] + 1) / 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nudge_threshold, "wanted the labels, groups and decision that lie in model.tflite"),
        (lambda r: r["input"].update(width=r["input"]["width"] + 1), "golden|images: wanted"),
        (lambda r: r["groups"].reverse() or r["decision"].update(group="Edible"), "."),
    ],
)
def test_a_changed_decision_or_input_is_caught(exported, photos, tmp_path, change, message):
    bundle = tmp_path / "changed"
    shutil.copytree(exported[1], bundle)
    record = read_json(bundle / "bundle.json")
    change(record)
    write_json(bundle / "bundle.json", record)
    with pytest.raises(DataError, match=message):
        mobileclf.predict(bundle, photos)


def test_a_flipped_byte_of_the_model_is_caught(exported, photos, tmp_path):
    bundle = tmp_path / "flipped"
    shutil.copytree(exported[1], bundle)
    data = bytearray((bundle / "model.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.tflite").write_bytes(data)
    with pytest.raises(DataError, match="wanted sha256"):
        mobileclf.predict(bundle, photos)


def test_a_demo_never_calls_anything_harmless(exported, tmp_path, photos):
    """The sample's bundle is a demo: its other verdict is not sure, golden cases included."""
    bundle = tmp_path / "demo"
    options = dict(QUICK, name="demo", batch_size=32)
    mobileclf.export(int8=True, run=tmp_path / "run", out=tmp_path, **options)
    record = read_json(bundle / "bundle.json")
    assert record["purpose"] == "demo"
    assert {case["verdict"] for case in record["golden"]} == {"NotEdible", NOT_SURE}
    verdicts = {row["verdict"] for row in mobileclf.predict(bundle, photos)}
    assert verdicts == {"NotEdible", NOT_SURE}


def test_records_hold_no_place_of_this_machine(exported, photos):
    folder, bundle = exported
    for path in [*folder.glob("*.json"), *bundle.glob("*.json"), bundle / "report.html"]:
        if path.name != "config.json":
            assert str(photos) not in path.read_text() and str(folder) not in path.read_text()


@pytest.mark.skipif(not INCEPTION.is_file(), reason=f"{INCEPTION} is not at hand")
def test_inception_through_the_whole_chain(photos, tmp_path):
    """InceptionV3 with ImageNet weights, at its smallest size."""
    mobileclf.export(
        int8=True, data=photos, run=tmp_path / "run", out=tmp_path / "out",
        backbone="inception_v3", weights=str(INCEPTION), image_size=75, epochs=8,
        harmful="NotEdible", name="inception",
    )  # fmt: skip
    quantize = read_json(tmp_path / "run" / "quantize.json")
    assert all(c["largest_difference"] <= c["bound"] for c in quantize["checks"])
    operators = read_json(tmp_path / "run" / "convert.json")["candidates"][1]["operators"]
    counts = {row["operator"]: row["count"] for row in operators}
    assert counts["CONV_2D"] == 94 and counts["CONCATENATION"] == 15
    assert (tmp_path / "out" / "inception" / "bundle.json").is_file()


def test_parts_are_as_the_design_says_and_disjoint(exported):
    rows = [row for row in read_csv(exported[0] / "dataset.csv") if row["split"]]
    shares = {p: sum(r["split"] == p for r in rows) / len(rows)
              for p in ("train", "validation", "threshold", "test")}  # fmt: skip
    for part, wanted in (("train", 0.6), ("validation", 0.1), ("threshold", 0.15), ("test", 0.15)):
        assert abs(shares[part] - wanted) < 0.05
    assert len({row["sha256"] for row in rows}) == len(rows)


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_other_ends_give_the_same_answers_over_an_existing_bundle(exported, photos, tmp_path, io):
    """Only what follows the conversion is done again, and the bundle that was there replaced."""
    shutil.copytree(exported[0], tmp_path / "run")
    shutil.copytree(exported[1], tmp_path / "small")
    mobileclf.export(int8=True, data=photos, run=tmp_path / "run", out=tmp_path, io=io, **QUICK)
    record = read_json(tmp_path / "small" / "bundle.json")
    assert record["input"]["dtype"] == record["output"]["dtype"] == io
    wanted = mobileclf.predict(exported[1], photos)
    assert mobileclf.predict(tmp_path / "small", photos) == wanted
    assert {p.name for p in tmp_path.iterdir()} == {"run", "small"}


@pytest.mark.parametrize("kind", ["photos", "a file", "a link"])
def test_nothing_but_a_bundle_is_ever_replaced(exported, photos, tmp_path, kind):
    """`--out .` beside the photos would put the bundle in their place."""
    target = tmp_path / "small"
    if kind == "photos":
        shutil.copytree(photos, target)
    elif kind == "a file":
        target.write_text("mine")
    else:
        target.symlink_to(photos)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="wanted .* to be free or an earlier bundle"):
        mobileclf.export(int8=True, data=photos, run=exported[0], out=tmp_path, **QUICK)
    assert contents(tmp_path) == before


def test_a_bundle_with_a_file_of_mine_in_it_is_not_replaced(exported, photos, tmp_path):
    shutil.copytree(exported[1], tmp_path / "small")
    (tmp_path / "small" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="found other files there"):
        mobileclf.export(int8=True, data=photos, run=exported[0], out=tmp_path, **QUICK)
    assert (tmp_path / "small" / "notes.txt").read_text() == "mine"
