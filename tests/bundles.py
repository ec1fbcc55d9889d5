"""A small bundle that tests build without a run, and photos whose truth is what it answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobileclf.bundles import SCHEMA
from mobileclf.decision import Classes, Decision, decision_file
from mobileclf.golden import Judge
from mobileclf.images.load import ImageSpec, load
from mobileclf.importing.flatten import flatten
from mobileclf.models import backbones, qat, ranges, rewrites
from mobileclf.records import read_json, sha256_bytes, sha256_file, write_json
from mobileclf.tflite import convert, metadata
from mobileclf.tflite.interpreter import as_quanta, open_interpreter, scores

from .models import LABELS, SIZE, architecture

CLASSES = Classes(labels=("a", "b", "c"), groups=("good", "bad", "good"), harmful="bad")
SPEC = ImageSpec(width=SIZE, height=SIZE)
GOLDEN, PHOTOS = 4, 60


def png(seed: int) -> bytes:
    """A drawn picture: two plain colours, which small networks tell apart."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((24, 20, 3), np.uint8)
    pixels[:] = rng.integers(0, 256, 3)
    pixels[6:18, 5:15] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@cache
def network() -> bytes:
    """An int8 small_cnn of seed 0, with a head that gives pictures each label."""
    import tf_keras

    model = backbones.build(tf_keras, architecture())
    head = model.get_layer("probabilities")
    pictures = np.stack([load(png(seed), SPEC) for seed in range(100, 100 + PHOTOS)])
    found = np.asarray(tf_keras.Model(model.input, head.input)(pictures.astype(np.float32)))
    kernel = np.random.default_rng(0).normal(size=head.get_weights()[0].shape)
    kernel *= 3 / (found @ kernel).std(axis=0)
    head.set_weights([kernel, -(found @ kernel).mean(axis=0)])
    graph = rewrites.rewritten(flatten(model).graph)
    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, pictures)
    return convert.from_quantized_graph(aware, "uint8")


def decided(threshold_q: int = 100) -> Decision:
    return Decision(group="bad", threshold_q=threshold_q, kernel_bound=2)


def judge_of(model: bytes, decision: Decision) -> Judge:
    engine = open_interpreter(model)
    return Judge(
        spec=SPEC,
        classes=CLASSES,
        decision=decision,
        score=lambda pixels: as_quanta(scores(engine, pixels)),
    )


def write_bundle(folder: Path, *, decision: Decision | None = None, name: str = "small") -> Path:
    """A whole bundle, as `export` leaves it, of a network that was never trained."""
    assert len(CLASSES.labels) == LABELS
    decision = decision or decided()
    lines = "".join(f"{label}\n" for label in CLASSES.labels).encode()
    about = metadata.Description(
        name=name, description="drawn", version="1", author="tests",
        width=SIZE, height=SIZE, channels=3, minimum_score=None,
    )  # fmt: skip
    inside = {metadata.LABELS_FILE: lines, metadata.DECISION_FILE: decision_file(CLASSES, decision)}
    model = metadata.write(network(), about, inside)
    judge = judge_of(model, decision)
    (folder / "golden").mkdir(parents=True)
    (folder / "model.tflite").write_bytes(model)
    (folder / "labels.txt").write_bytes(lines)
    cases = []
    for i in range(GOLDEN):
        (folder / f"golden/{i}.png").write_bytes(png(i))
        cases.append(judge.case(png(i), ".png").as_record(f"golden/{i}.png"))
    parity = {"n": PHOTOS, "int8": {"accuracy": 1.0}, "agreement": 1.0, "changed": []}
    write_json(folder / "parity.json", parity)
    write_json(
        folder / "bundle.json",
        {
            "schema": SCHEMA, "name": name, "purpose": "real",
            "model": {"file": "model.tflite", "sha256": sha256_bytes(model), "min_runtime": "2.14"},
            "input": {**SPEC.as_record(), "dtype": "uint8", "scale": 1.0, "zero_point": 0},
            "output": {"dtype": "uint8", "scale": 1 / 256, "zero_point": 0, "kernels": "xnnpack"},
            **CLASSES.as_record(),
            "decision": decision.as_record(),
            "golden": cases,
            "metrics": {"n": PHOTOS, "int8": {"accuracy": 1.0}},
            "files": {},
        },
    )  # fmt: skip
    return rehash(folder)


def rehash(folder: Path, change: Callable[[Any], object] = lambda record: None) -> Path:
    """Change bundle.json, and write the hashes of all files as they are now into it."""
    record = read_json(folder / "bundle.json")
    change(record)
    record["model"]["sha256"] = sha256_file(folder / "model.tflite")
    names = ["labels.txt", "parity.json", *(case["image"] for case in record["golden"])]
    record["files"] = {name: {"sha256": sha256_file(folder / name)} for name in names}
    write_json(folder / "bundle.json", record)
    return folder


def write_photos(folder: Path) -> Path:
    """Class folders, each picture in that of the label that the network answers."""
    judge = judge_of(network(), decided())
    for seed in range(100, 100 + PHOTOS):
        label = judge.case(png(seed), ".png").label
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{seed}.png").write_bytes(png(seed))
    return folder
