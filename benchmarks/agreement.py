"""Whether everything that can run a bundle's model says the same of real photos.

    python benchmarks/agreement.py BUNDLE [PHOTOS] [--photos 200]

PHOTOS is searched for pictures, of which as many as said are taken, evenly spread; without it the
bundle's golden pictures are. Each is judged four times:

- by `mobileclf.predict`;
- by the plain interpreter, in the lines that the README shows (PLAIN below, run as they stand);
- by MediaPipe Tasks' ImageClassifier on the pixels that those lines made;
- by MediaPipe on the file, with its own decoder and resize.

The first three must give the same labels, scores and decisions, or the script exits 1; of the
fourth it prints by how much it differs. MediaPipe is installed into a virtual environment of its
own in a temporary folder, since its requirements are not this tool's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

import mobileclf

PLAIN = """
import json
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

about = json.load(open(f"{bundle}/bundle.json", encoding="utf-8"))
size = about["input"]["width"], about["input"]["height"]
photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
photo = photo.resize((size[0], photo.height), Image.BILINEAR).resize(size, Image.BILINEAR)
model = Interpreter(f"{bundle}/model.tflite")
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], np.asarray(photo)[None])
model.invoke()
scores = model.get_tensor(model.get_output_details()[0]["index"])[0]  # 256 is probability 1
label = about["labels"][scores.argmax()]["label"]

group, least = about["decision"]["group"], about["decision"]["threshold_q"]
members = [row["group"] == group for row in about["labels"]]
harmful = scores[members].sum(dtype=int) >= least
print(label, scores.max() / 256, group, harmful)
"""
MEDIAPIPE = """
import json, sys
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
model, pixels, *paths = sys.argv[1:]
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
def scores(classifier, image):
    categories = classifier.classify(image).classifications[0].categories
    return {c.category_name: c.score for c in categories}
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for array, path in zip(np.load(pixels), json.load(open(paths[0])), strict=True):
        ours = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(array))
        file = mp.Image.create_from_file(path)
        found.append([scores(classifier, ours), scores(classifier, file)])
print("FOUND" + json.dumps(found))
"""
PICTURES = {".jpg", ".jpeg", ".png"}
Scores = dict[str, float]


def spread(folder: Path, count: int) -> list[Path]:
    """As many of a folder's pictures as said, evenly spread over their sorted paths."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not found:
        raise SystemExit(f"{folder}: wanted JPEG or PNG pictures, found none")
    return [found[i * len(found) // count] for i in range(count)] if count < len(found) else found


def plain(bundle: Path, path: Path) -> tuple[Scores, Any, tuple[Any, ...]]:
    """By PLAIN: the scores (0..1) by label, the pixels that it makes, and what it prints."""
    printed: list[tuple[Any, ...]] = []
    names: dict[str, Any] = {
        "bundle": bundle,
        "path": path,
        "print": lambda *said: printed.append(said),
    }
    exec(compile(PLAIN, "PLAIN", "exec"), names)
    labels = [row["label"] for row in names["about"]["labels"]]
    scores = {label: int(q) / 256 for label, q in zip(labels, names["scores"], strict=True)}
    return scores, np.asarray(names["photo"]), printed[0]


def by_mediapipe(model: Path, paths: list[Path], pixels: Any) -> list[tuple[Scores, Scores]]:
    """MediaPipe's scores by label for each picture, from its pixels and from its file."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "mediapipe"], check=True)
        arrays, names = Path(folder) / "pixels.npy", Path(folder) / "paths.json"
        np.save(arrays, pixels)
        names.write_text(json.dumps([str(path) for path in paths]), encoding="utf-8")
        command = [python, "-c", MEDIAPIPE, model, arrays, names]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("FOUND"):
            return [(ours, file) for ours, file in json.loads(line[5:])]
    raise SystemExit(f"MediaPipe does not take {model}:\n{done.stderr[-2000:]}")


def harmful(scores: Scores, about: Any) -> bool:
    """The group decision by these scores."""
    rule = about["decision"]
    members = [row["label"] for row in about["labels"] if row["group"] == rule["group"]]
    return bool(round(sum(scores[label] for label in members) * 256) >= rule["threshold_q"])


def best(scores: Scores, about: Any) -> str:
    """The label of the largest score, of the lower index on a tie."""
    return max((row["label"] for row in about["labels"]), key=lambda label: scores[label])


def main() -> None:
    """Print how far each way of running the model is from `mobileclf.predict`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    bundle = options.bundle
    about = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    if about["decision"]["group"] is None:
        raise SystemExit(f"{bundle}: wanted a bundle with a harmful group, found none")
    paths = spread(options.folder or bundle / "golden", options.photos)
    rows = mobileclf.predict(bundle, paths)
    read = [(path, row) for path, row in zip(paths, rows, strict=True) if not row["problem"]]
    paths, rows = [path for path, _ in read], [row for _, row in read]
    lines = [plain(bundle, path) for path in paths]
    model = bundle / about["model"]["file"]
    theirs = by_mediapipe(model, paths, np.stack([pixels for _, pixels, _ in lines]))
    ways = {
        "the plain interpreter": [scores for scores, _, _ in lines],
        "MediaPipe, same pixels": [ours for ours, _ in theirs],
        "MediaPipe, the file": [file for _, file in theirs],
    }
    # What the lines print is what anyone who copies them goes by.
    same = all(
        said == (row["label"], row["score"], about["decision"]["group"], harmful(scores, about))
        for row, (scores, _, said) in zip(rows, lines, strict=True)
    )
    print(f"{len(rows)} photos, compared with mobileclf.predict:")
    for way, found in ways.items():
        pairs = list(zip(rows, found, strict=True))
        labels = sum(best(scores, about) != row["label"] for row, scores in pairs)
        verdicts = sum(_differs(row, scores, about) for row, scores in pairs)
        off = [abs(scores[e["label"]] - e["score"]) for row, scores in pairs for e in row["top"]]
        print(
            f"{way}: {labels} other labels, {verdicts} other decisions, scores at most "
            f"{max(off):.4g} off, {np.mean(off):.4g} on average"
        )
        if way != "MediaPipe, the file":
            same &= not labels and not verdicts and max(off) < 1e-6
    raise SystemExit(0 if same else 1)


def _differs(row: Any, scores: Scores, about: Any) -> bool:
    decided, rule = harmful(scores, about), about["decision"]
    return decided != (round(row["group_score"] * 256) >= rule["threshold_q"]) or (
        # Where nothing abstains, the verdict is the decision.
        rule["abstain"] is None and decided != (row["verdict"] == rule["group"])
    )


if __name__ == "__main__":
    main()
