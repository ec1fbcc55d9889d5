"""Layers in float: only where int8 ruins the answers, the guilty ones, and exactly those."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mobileclf.config import make_settings
from mobileclf.errors import ProofError
from mobileclf.images.load import ImageSpec
from mobileclf.models import grid, keras_file, mixed, qat, ranges, reconstruct
from mobileclf.models.graph import Graph, Node, build
from mobileclf.records import write_json
from mobileclf.stages import convert as convert_stage
from mobileclf.stages import quantize as quantize_stage
from mobileclf.tflite import convert
from mobileclf.tflite.audit import arithmetic, audit, is_mixed
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.test_equalize import SIZE, conv, dense, depthwise, graph_of, pool, relu

GUILTY = ("sum", "difference")
AS_ASKED = {"labels": 3, "io": "uint8", "shape": (SIZE, SIZE, 3)}


def pictures(n, seed=0):
    """One colour each, and noise."""
    rng = np.random.default_rng(seed)
    colours = rng.uniform(40, 215, (n, 1, 1, 3))
    return (colours + rng.uniform(-40, 40, (n, SIZE, SIZE, 3))).astype(np.uint8)


def mean(name, source):
    return Node(
        name=name, kind="GlobalAveragePooling2D", config={"keepdims": False}, inputs=(source,)
    )


def with_clear_answers(graph):
    """Its head turned to what the features differ in from photo to photo."""
    import tf_keras

    model = build(tf_keras, graph)
    seen = tf_keras.Model(model.input, model.get_layer("features").output)
    features = seen(pictures(64).astype(np.float32)).numpy().astype(np.float64)
    centred = features - features.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    turn = np.random.default_rng(2).normal(size=(2, 3))
    kernel = directions[:2].T / sizes[:2] * 8 @ turn * 3
    weights = kernel, -features.mean(axis=0) @ kernel
    nodes = list(graph.nodes)
    nodes[-1] = replace(nodes[-1], weights=tuple(w.astype(np.float32) for w in weights))
    return Graph(nodes=tuple(nodes))


@cache
def network(times):
    """What a large branch is added to and taken from again: 256 steps of the sum have to hold
    `times` the small branch."""
    stem, big = conv("stem", "pixels", 3, 6, kernel=3), conv("big", "stem_relu", 6, 6)
    stem = replace(stem, weights=(stem.weights[0] / 255, stem.weights[1]))
    big = replace(big, weights=tuple(w * np.float32(times) for w in big.weights))
    graph = graph_of(
        stem,
        relu("stem_relu", "stem"),
        big,
        conv("small", "stem_relu", 6, 6),
        relu("small_relu", "small"),
        Node(name="sum", kind="Add", inputs=("big", "small_relu")),
        Node(name="difference", kind="Subtract", inputs=("sum", "big")),
        conv("last", "difference", 6, 6),
        relu("last_relu", "last"),
        mean("features", "last_relu"),
        dense("answers", "features", 6),
    )
    return with_clear_answers(graph)


@cache
def reconstructed(times):
    return reconstruct.reconstruct(network(times), pictures(128))


def kept_in_float(times, photos):
    of = reconstructed(times)

    def again(layers):
        return reconstruct.reconstruct(network(times), pictures(128), in_float=layers).aware

    return mixed.mixed(of.graph, of.aware, photos, again)


@cache
def made():
    """Of a network that int8 ruins, and its file."""
    found = kept_in_float(1e3, pictures(96, seed=1))
    return found, convert.from_quantized_graph(found.aware, "uint8")


def same_answers(scores, photos, times=1e3):
    import tf_keras

    wanted = qat.forward(build(tf_keras, network(times)), photos)
    return float((scores.argmax(axis=1) == wanted.argmax(axis=1)).mean())


def test_the_guilty_layers_alone_are_kept_in_float_and_the_gate_then_holds():
    found, model = made()
    assert found.float_layers == GUILTY and found.report["float_layers"] == list(GUILTY)
    assert found.report["int8"]["agreement"] < 0.8 and not found.report["passed"]
    assert [row["units"] for row in found.report["tried"]] == [1]
    assert found.report["mixed"]["agreement"] >= mixed.AGREEMENT
    unseen = pictures(96, seed=2)
    scores = as_quanta(score_photos(model, unseen, title="score"))
    assert same_answers(scores, unseen) >= mixed.AGREEMENT
    assert same_answers(qat.forward(reconstructed(1e3).aware, unseen), unseen) < 0.8
    assert "kept in float: sum, difference" in mixed.summary(found.report)


def test_the_file_has_them_in_float_and_answers_like_the_graph():
    found, model = made()
    audit(model, **AS_ASKED, float_layers=GUILTY)
    assert arithmetic(model) == "mixed"
    photos = pictures(32, seed=3)
    scores = as_quanta(score_photos(model, photos, title="score")) / 256
    assert np.abs(scores - qat.forward(found.aware, photos)).mean() < 0.01


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "wanted every operator int8, found"),
        (("sum",), "found SUB on .*float32.*, for difference; wanted in float sum alone"),
        ((*GUILTY, "last"), "wanted last in float, found no such operator"),
    ],
)
def test_a_layer_more_or_fewer_in_float_is_refused(layers, message):
    with pytest.raises(ProofError, match=message):
        audit(made()[1], **AS_ASKED, float_layers=layers)


def test_a_float_operator_on_int8_weights_is_not_in_float():
    """As of the converter's dynamic range: what is rounded there is rounded all the same."""
    import tf_keras

    model = convert.floating(build(tf_keras, network(1.0)), "dynamic")
    assert is_mixed(model, [node.name for node in network(1.0).nodes]) is not None


def test_a_healthy_network_stays_in_int8_and_nothing_else_is_tried():
    found = kept_in_float(1.0, pictures(96, seed=1))
    assert found.aware is None and found.float_layers == ()
    assert found.report["passed"] and found.report["int8"]["agreement"] >= mixed.AGREEMENT
    assert found.report["units"] == found.report["tried"] == []
    assert mixed.summary(found.report) is None


def test_where_no_half_would_do_it_is_said_and_the_graph_left_as_it_was(monkeypatch):
    of = reconstructed(1e3)
    before = of.aware.get_weights()
    monkeypatch.setattr(mixed, "allowed", lambda photos: -1)
    found = kept_in_float(1e3, pictures(16, seed=1))
    most = len(grid.float_units(of.graph)) // 2
    assert found.aware is None and found.report["tried"][-1]["units"] == most
    assert mixed.summary(found.report).startswith("no candidate mixed: wanted 95%")
    for one, other in zip(before, of.aware.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_measured_is_the_graph_that_is_made():
    """Switched off in one graph, and never built into the other."""
    of, photos = reconstructed(1.0), pictures(16, seed=4)
    partly = mixed._PartlyRounded(of.graph, of.aware)
    for layers in grid.float_units(of.graph).values():
        made_so = qat.quantized(of.graph, layers)
        qat.copy_numbers(of.aware, made_so)
        wanted = qat.forward(made_so, photos)
        # The answers themselves are rounded where the softmax is in float, the largest to 255/256.
        bound = 1 / 255 if "answers" in layers else 1e-4
        assert np.abs(partly.answers(photos, layers) - wanted).max() < bound, layers
        partly.restore()
    rounded = partly.answers(photos, ())
    np.testing.assert_allclose(rounded, qat.forward(of.aware, photos), atol=1e-5)
    everything = [node.name for node in of.graph.nodes]
    assert same_answers(partly.answers(photos, everything), photos, 1.0) == 1.0


@pytest.mark.parametrize("most", [1, 5, 8, 13])
@pytest.mark.parametrize("needed", [1, 2, 3, 5, 6, 8, 13, 14])
def test_the_fewest_are_found_with_few_trials(needed, most):
    tried = []

    def holds(count):
        tried.append(count)
        return count >= needed

    assert mixed.fewest(holds, most) == (needed if needed <= most else None)
    assert len(tried) == len(set(tried)) <= 8 and max(tried) <= most


def test_no_unit_no_trial():
    assert mixed.fewest(lambda count: True, 0) is None


def test_one_answer_is_chance_however_few_the_photos():
    assert [mixed.allowed(n) for n in (1, 10, 39, 40, 60, 128)] == [1, 1, 1, 2, 3, 6]


def many_kinds():
    """Ranges that are shared, averaged, read twice, joined, and of TFLite's own grid."""
    gate = {"activation": "sigmoid"}
    return graph_of(
        conv("stem", "pixels", 3, 6, kernel=3),
        relu("stem6", "stem", 6.0),
        depthwise("dw", "stem6", 6),
        relu("dw6", "dw", 6.0),
        Node(name="joined", kind="Concatenate", inputs=("stem6", "dw6")),
        pool("pooled", "joined"),
        conv("narrow", "pooled", 12, 4),
        Node(name="gate", kind="Activation", config=gate, inputs=("narrow",)),
        Node(name="times", kind="Multiply", inputs=("narrow", "gate")),
        Node(name="larger", kind="Maximum", inputs=("times", "gate")),
        conv("wide", "larger", 4, 12),
        Node(name="both", kind="Add", inputs=("wide", "pooled")),
        mean("features", "both"),
        dense("answers", "features", 12),
    )


def test_each_unit_is_in_float_in_the_file_and_nothing_else():
    """What the converter makes of each: the audit's words for whatever is off."""
    graph = many_kinds()
    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, pictures(16))
    units = grid.float_units(graph)
    # None of the input, of the sigmoid, nor of what a maximum joins with it; and an average goes
    # with what it is the average of.
    assert set(units) == {"pooled", "narrow", "wide", "both", "features", "answers/before"}
    assert units["features"] == ("both", "features", "answers")
    for layers in units.values():
        made_so = qat.quantized(graph, layers)
        qat.copy_numbers(aware, made_so)
        model = convert.from_quantized_graph(made_so, "uint8")
        audit(model, **AS_ASKED, float_layers=layers)
        assert is_mixed(model, layers[1:] or ("stem",)) is not None


def test_only_what_is_meant_to_be_rounded_is():
    """In a unit alone: its own kernels and range, and nothing of what borders on it."""
    of, photos = reconstructed(1e3), pictures(16, seed=4)
    nearest = mixed._PartlyRounded(of.graph, mixed._to_the_nearest(of.graph, of.aware))
    units = grid.float_units(of.graph)
    assert same_answers(nearest.answers_of(photos, units["sum"]), photos) < 0.8
    # Both write or read what is rounded to ruin in the unit `sum`.
    for name in ("small_relu", "difference"):
        assert same_answers(nearest.answers_of(photos, units[name]), photos) >= mixed.AGREEMENT


@pytest.mark.parametrize(("times", "named"), [(1e3, ["sum", "difference"]), (1.0, None)])
def test_a_run_has_the_candidate_where_it_is_needed(times, named, tmp_path, monkeypatch, capfd):
    import keras

    keras_file.save(build(keras, network(times)), tmp_path / "model.keras")
    spec = ImageSpec(width=SIZE, height=SIZE, channels=3)
    write_json(tmp_path / "train.json", {"model": "model.keras", "input": spec.as_record()})
    for stage in (quantize_stage, convert_stage):
        monkeypatch.setattr(
            stage, "load_part",
            lambda folder, settings, part, most=None: (range(96), pictures(96, seed=len(part))),
        )  # fmt: skip
    monkeypatch.setattr(convert_stage, "read_labels", lambda folder: (["a", "b", "c"], None))
    settings = make_settings({"run": tmp_path})
    quantized = quantize_stage.work(tmp_path, settings)
    write_json(tmp_path / "quantize.json", quantized)
    rows = {row["candidate"]: row for row in convert_stage.work(tmp_path, settings)["candidates"]}
    assert quantized["mixed"]["passed"] is (named is None)
    assert quantized["candidates"] == [*rows][1:]
    said = "kept in float: sum, difference" in capfd.readouterr().err
    if named is None:
        assert "mixed" not in rows and not said
    else:
        own = rows.pop("mixed")
        assert said and own["float_layers"] == named and own["arithmetic"] == "mixed"
        assert {"mixed.npz", "mixed_graph/graph.json"} <= set(quantized["outputs"])
        assert own["check"]["agreement"] >= 0.9
    assert all((row["arithmetic"], row["float_layers"]) == ("int8", []) for row in rows.values())
