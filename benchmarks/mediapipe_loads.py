"""Load a bundle in MediaPipe Tasks' ImageClassifier and classify its golden pictures.

    python benchmarks/mediapipe_loads.py BUNDLE

MediaPipe is installed into a virtual environment of its own in a temporary folder, since its
requirements are not this tool's. It gets each picture twice: as the pixels that the bundle's own
preprocessing makes, where its scores must be the golden outputs; and as the file, where its own
decoder and resize take over, whose difference is printed. Exits 1 when MediaPipe does not take the
model, has other labels, or other scores on the same pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf.images.load import ImageSpec, load
from mobileclf.prediction import read_bundle

CHILD = """
import json, sys
from pathlib import Path
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
bundle = Path(sys.argv[1])
record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
options = vision.ImageClassifierOptions(
    base_options=BaseOptions(model_asset_path=str(bundle / record["model"]["file"]))
)
def scores(classifier, image):
    categories = classifier.classify(image).classifications[0].categories
    return {c.category_name: c.score for c in categories}
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for case, pixels in zip(record["golden"], np.load(sys.argv[2]), strict=True):
        ours = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
        file = mp.Image.create_from_file(str(bundle / case["image"]))
        found.append([scores(classifier, ours), scores(classifier, file)])
print("FOUND" + json.dumps(found))
"""
Scores = dict[str, float]


def classify(bundle: Path, pixels: NDArray[np.uint8]) -> list[tuple[Scores, Scores]]:
    """MediaPipe's scores by label for each golden picture, from `pixels` and from its file."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "mediapipe"], check=True)
        inputs = Path(folder) / "pixels.npy"
        np.save(inputs, pixels)
        done = subprocess.run(
            [python, "-c", CHILD, bundle, inputs], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"MediaPipe does not take {bundle}:\n{done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    return [(ours, file) for ours, file in json.loads(line[5:])]


def main() -> None:
    """Print one line for each golden picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    record = read_bundle(bundle)
    labels = [row["label"] for row in record["labels"]]
    spec = ImageSpec.from_record(record["input"])
    pixels = np.stack([load(bundle / case["image"], spec) for case in record["golden"]])
    for case, (ours, file) in zip(record["golden"], classify(bundle, pixels), strict=True):
        wanted = {label: q / 256 for label, q in zip(labels, case["output"], strict=True)}
        if set(ours) != set(wanted):
            raise SystemExit(f"labels: wanted {labels}, MediaPipe has {list(ours)}")
        largest = max(abs(ours[label] - wanted[label]) for label in labels)
        if largest > 1e-6:
            raise SystemExit(f"{case['image']}: wanted the same scores, found {largest:.4f} off")
        own = max(abs(file[label] - wanted[label]) for label in labels)
        print(f"{case['image']}: same pixels, same scores; by MediaPipe's own resize {own:.3f} off")


if __name__ == "__main__":
    main()
