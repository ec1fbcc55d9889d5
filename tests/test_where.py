"""Where a difference comes from: told of a file that is broken at a known place, never raised."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from mobileclf import pipeline
from mobileclf.errors import DataError
from mobileclf.layers import parting
from mobileclf.layers import where as module
from mobileclf.layers.where import where
from mobileclf.records import read_json
from mobileclf.settings import Settings
from mobileclf.stages import parity
from mobileclf.tflite import delegates
from mobileclf.tflite.graph import read
from mobileclf.tflite.interpreter import score_photos
from tests.models import photos, tiny_int8
from tests.test_explain import changed, kernel_bytes, run
from tests.variants import edited

__all__ = ["run"]  # the fixture
LITERT = parting.Way(runtime="ai-edge-litert", kernels="builtin")


def record(run, *paths: str, **more: Any) -> dict[str, Any]:
    rows = [{"path": path, "truth": "a", "float": "a", "int8": "b"} for path in paths]
    return {"candidate": "calibrated", "split": "validation", "changed": rows, **more}


def settings(folder):
    return pipeline.settings_for({"run": folder}, "inspect")


def broken(layer: str):
    def change(tree: Any) -> None:
        data = np.array(kernel_bytes(tree, layer).data, dtype=np.uint8)
        data[::3] ^= 128
        kernel_bytes(tree, layer).data = data

    return change


@pytest.fixture
def quick(monkeypatch):
    """One runtime: TensorFlow's takes seconds to start."""
    monkeypatch.setattr(module, "partings", lambda *given: parting.partings(*given, [LITERT]))
    monkeypatch.setattr(module, "installed", lambda: [delegates.MAIN])


def test_the_broken_layer_the_kernels_and_the_delegates_are_told(run, quick, tmp_path):
    whole = run / "model_calibrated.tflite"
    sound = whole.read_bytes()
    names = sorted(row["path"] for row in pipeline_rows(run))
    try:
        whole.write_bytes(changed(run, "broken", broken("block2_conv")).read_bytes())
        found = where(record(run, names[3]), settings(run))
    finally:
        whole.write_bytes(sound)
    assert found["problems"] == [] and found["photos"] == [names[3]]
    worst = found["layers"]["largest_falls"][0]
    assert (worst["layer"], worst["cause"]) == ("block2_conv", "damaged")
    (row,) = found["runtimes"]
    assert row["one"].endswith("xnnpack") and row["other"].endswith("builtin")
    (taken,) = found["delegates"]
    assert taken["loads"] and taken["delegate"] == "XNNPACK" and taken["operators_taken"] > 5
    assert taken["operators_left"]["SOFTMAX"] == 1
    json.dumps(found, allow_nan=False)


def pipeline_rows(run):
    from mobileclf.records import read_csv

    return read_csv(run / "dataset.csv")


def test_photos_that_were_lost_come_first(run):
    paths = tuple(row["path"] for row in pipeline_rows(run))
    assert module._rows(record(run), paths).tolist() == list(range(len(paths)))
    won = {"path": paths[4], "truth": "a", "float": "b", "int8": "a"}
    lost = {"path": paths[2], "truth": "a", "float": "a", "int8": "b"}
    other = {"path": paths[0], "truth": "a", "float": "a", "int8": "b"}
    given = {**record(run), "changed": [won, lost], "builtin": {"changed": [lost, other]}}
    assert module._rows(given, paths).tolist() == [2, 0, 4]
    many = [{**lost, "path": path} for path in (*paths, *paths)] * 3
    assert len(module._rows({**given, "changed": many}, paths)) <= module.MOST_PHOTOS


def test_what_cannot_be_told_is_said_without_where_the_run_lies(run, quick, monkeypatch):
    def fails(*given):
        raise OSError(f"no {run}/model.keras, nor {run}")

    monkeypatch.setattr(module.explain, "_measured", fails)
    found = where(record(run), settings(run))
    assert found["layers"] is None and found["runtimes"] and found["delegates"]
    assert found["problems"] == ["layers: OSError: no model.keras, nor the run"]
    nowhere = where({**record(run), "candidate": "absent"}, settings(run))
    assert nowhere["layers"] is None and "--candidate absent" in nowhere["problems"][0]


def test_what_libraries_print_goes_to_the_log(tmp_path, monkeypatch, capfd):
    """Under `-v` nothing else keeps it off the screen."""

    def prints(*given):
        os.write(2, b"INFO: Created a delegate")
        raise DataError("no photos")

    monkeypatch.setattr(module, "_seen", prints)
    where({}, Settings(run=tmp_path))
    assert "delegate" not in capfd.readouterr().err
    assert "delegate" in (tmp_path / pipeline.LOG).read_text()


def test_parting_is_at_the_layer_that_is_changed(monkeypatch):
    """The second runtime is given a file in which one kernel is another."""
    model, pictures = tiny_int8(), photos(2)
    graph = read(model).subgraphs[0]
    convolutions = [i for i, op in enumerate(graph.operators) if op.name == "CONV_2D"]
    outputs = parting._outputs
    for at in convolutions[1:3]:

        def change(tree: Any, at: int = at) -> None:
            own = tree.subgraphs[0]
            buffer = tree.buffers[own.tensors[own.operators[at].inputs[1]].buffer]
            buffer.data = np.array(buffer.data, dtype=np.uint8) ^ 64

        other = parting._exposed(edited(model, change))
        way = parting.Way(runtime="ai-edge-litert", kernels="xnnpack ")  # the same, to be told
        with monkeypatch.context() as patch:
            patch.setattr(
                parting, "_outputs",
                lambda data, given, on, other=other, way=way: outputs(
                    other if on is way else data, given, on
                ),
            )  # fmt: skip
            (row,) = parting.partings(model, pictures, [way])
        assert (row["first"]["depth"], row["first"]["operator"]) == (at, "CONV_2D")
        assert row["first"]["share"] > 0.1 and row["first"]["largest_difference"] > 1
        assert row["first"]["layer"] == graph.tensors[graph.operators[at].outputs[0]].name


def test_keeping_all_tensors_changes_no_answer():
    model, pictures = tiny_int8(), photos(2)
    for kernels in ("xnnpack", "builtin"):
        way = parting.Way(runtime="ai-edge-litert", kernels=kernels)
        found = parting._outputs(parting._exposed(model), pictures, way)
        wanted = score_photos(model, pictures, title="score", kernels=kernels)
        assert np.array_equal(found[-1], wanted)
        assert len(found) == len(read(model).subgraphs[0].operators)
    same = parting.Way(runtime="ai-edge-litert", kernels="xnnpack")
    (row,) = parting.partings(model, pictures, [same])
    assert row["first"] is None and row["output_difference"] == 0


def test_a_runtime_that_cannot_run_it_is_a_row_with_the_reason(monkeypatch):
    monkeypatch.setattr(parting, "TIME_LIMIT", 0.01)
    with pytest.raises(Exception, match="no answer in 0.01 seconds"):
        parting._outputs(tiny_int8(), photos(1), LITERT)
    monkeypatch.undo()
    way = parting.Way(runtime="ai-edge-litert", kernels="xnnpack")
    outputs = parting._outputs
    monkeypatch.setattr(
        parting, "_outputs",
        lambda data, given, on: outputs(data if on is parting.FIRST else b"no", given, on),
    )  # fmt: skip
    (row,) = parting.partings(tiny_int8(), photos(1), [way])
    assert "cannot run it with all tensors kept" in row["problem"] and "first" not in row


def test_the_stage_asks_for_it_only_when_answers_fail(monkeypatch, tmp_path):
    from tests.test_parity import SHIPPED, Chosen, swapped

    asked = []
    monkeypatch.setattr(parity, "where", lambda body, given: asked.append(body) or {"problems": []})
    made = Chosen(folder=tmp_path)
    made.parity()
    assert not asked
    made.change("test", SHIPPED, by=swapped)
    made.parity()
    assert len(asked) == 1 and asked[0]["candidate"] == "calibrated"
    assert read_json(tmp_path / "parity.json")["where"] == {"problems": []}
