"""Load a bundle in MediaPipe Tasks' ImageClassifier and classify its golden pictures.

    python benchmarks/mediapipe_loads.py BUNDLE

MediaPipe is installed into a virtual environment of its own in a temporary folder, since its
requirements are not this tool's. Prints each picture's label in the bundle and by MediaPipe, whose
own resize differs, so that the score may differ by a little; exits 1 when the labels of the file
are not the bundle's, or MediaPipe does not take the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CHILD = """
import json, sys
from pathlib import Path
import mediapipe as mp
from mediapipe.tasks.python import BaseOptions, vision
bundle = Path(sys.argv[1])
record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
options = vision.ImageClassifierOptions(
    base_options=BaseOptions(model_asset_path=str(bundle / record["model"]["file"]))
)
found = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for case in record["golden"]:
        image = mp.Image.create_from_file(str(bundle / case["image"]))
        categories = classifier.classify(image).classifications[0].categories
        found.append([[c.category_name, c.score] for c in categories])
print("FOUND" + json.dumps(found))
"""


def classify(bundle: Path) -> list[list[tuple[str, float]]]:
    """MediaPipe's categories and scores for each golden picture, best first."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "mediapipe"], check=True)
        done = subprocess.run(
            [python, "-c", CHILD, bundle], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"MediaPipe does not take {bundle}:\n{done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    return [[(name, score) for name, score in row] for row in json.loads(line[5:])]


def main() -> None:
    """Print one line for each golden picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    labels = {row["label"] for row in record["labels"]}
    for case, categories in zip(record["golden"], classify(bundle), strict=True):
        seen = {name for name, _ in categories}
        if seen != labels:
            raise SystemExit(f"labels: wanted {sorted(labels)}, MediaPipe has {sorted(seen)}")
        name, score = categories[0]
        ours = max(case["output"]) / 256
        print(f"{case['image']}: bundle {case['label']} {ours:.3f}, MediaPipe {name} {score:.3f}")


if __name__ == "__main__":
    main()
