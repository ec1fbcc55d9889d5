"""Hold what mobileclf says of MediaPipe Tasks, and of the metadata's schema, against MediaPipe.

    python benchmarks/mediapipe_accepts.py [MODEL.tflite ...]

MediaPipe is installed into a virtual environment of its own in a temporary folder, since its
requirements are not this tool's. Each of the models of tests/variants.py, and each given one, is

- given to its ImageClassifier, which takes it (and classifies a picture) or does not, and to
  `mobileclf.tflite.acceptance.accepted_by`: one line for each;
- read by the code that flatc generated from metadata_schema.fbs, which lies in MediaPipe's wheel:
  the values must be those of `mobileclf.tflite.metadata.opened`, and its slots, types and enums
  those of `schema.TABLES`, `UNIONS` and `ENUMS`.

Exits 1 on any difference, but for what MediaPipe itself leaves to chance (EITHER).
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mobileclf.tflite import metadata  # noqa: E402
from mobileclf.tflite import metadata_schema as schema  # noqa: E402
from mobileclf.tflite.acceptance import MEDIAPIPE, accepted_by  # noqa: E402
from tests.variants import variants  # noqa: E402

# By its source MediaPipe follows a null pointer for these, so that some runs crash and others do
# not. Its answer is shown and not counted; mobileclf has to say no.
EITHER = (
    "output without a name",
    "a threshold without options",
    "a normalization without options",
    "a normalization without numbers",
)
# One model a process: after some refusals MediaPipe's next call hangs, others crash it.
CLASSIFY = """
import json, sys
import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)
try:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        heads = classifier.classify(picture).classifications
    said = ["yes", f"{sum(len(head.categories) for head in heads)} scores"]
except Exception as error:
    said = ["no", " ".join(str(error).split())]
print("SAID" + json.dumps(said), flush=True)
"""
# What the generated code knows, by calling what it writes a field with, and what it reads.
SCHEMA = """
import importlib.util, json, re, sys
from pathlib import Path
import mediapipe
where = Path(mediapipe.__file__).parent / "tasks/metadata/metadata_schema_py_generated.py"
spec = importlib.util.spec_from_file_location("schema", where)
schema = importlib.util.module_from_spec(spec)
spec.loader.exec_module(schema)
def snake(name):
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
class Builder:
    def __getattr__(self, called):
        return lambda slot, value, default: self.seen.append((called, slot))
slots = {}
for name, function in vars(schema).items():
    if (found := re.fullmatch("([A-Za-z]+?)Add([A-Z].*)", name)) and callable(function):
        builder = Builder()
        builder.seen = []
        function(builder, 0)
        slots.setdefault(found[1], {})[snake(found[2])] = builder.seen[0]
enums = {
    name: {value: key for key, value in vars(enum).items() if isinstance(value, int)}
    for name, enum in vars(schema).items()
    if isinstance(enum, type) and not hasattr(enum, "Init") and not name.endswith("T")
}
def plain(value):
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(value, "__dict__"):
        return {"is": type(value).__name__[:-1]} | {
            snake(key): plain(item) for key, item in vars(value).items()
        }
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list) else value
read = []
for path in sys.argv[1:]:
    root = schema.ModelMetadata.GetRootAs(Path(path).read_bytes(), 0)
    read.append(plain(schema.ModelMetadataT.InitFromObj(root)))
print("FOUND" + json.dumps([slots, enums, read]))
"""


def run(python: Path, code: str, paths: list[Path]) -> subprocess.CompletedProcess[str]:
    """The code in MediaPipe's environment."""
    command = [python, "-c", code, *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def classified(python: Path, path: Path) -> tuple[str, str]:
    """For a model "yes" and the number of scores, or "no" and why; one that crashes is a no."""
    done = run(python, CLASSIFY, [path])
    for line in done.stdout.splitlines():
        if line.startswith("SAID"):
            said, why = json.loads(line[4:])
            return said, why
    if done.returncode >= 0:
        raise SystemExit(f"MediaPipe does not run:\n{done.stderr[-2000:]}")
    return "no", f"it crashes, signal {-done.returncode}"


def schema_differences(slots: Any, enums: Any) -> list[str]:
    """Where TABLES, UNIONS and ENUMS are not what the generated code says."""
    wanted = {"string": "UOffsetTRelative", **{k: v[0] for k, v in schema.SCALARS.items()}}
    wrong = []
    for table, fields in schema.TABLES.items():
        for field, (slot, kind) in fields.items():
            said = [f"Prepend{wanted.get(kind, 'UOffsetTRelative')}Slot", slot]
            if slots.get(table, {}).get(field) != said:
                wrong.append(f"{table}.{field}: wanted {slots[table].get(field)}, found {said}")
    ours = {name: dict(enumerate(members)) for name, members in schema.ENUMS.items()}
    ours |= {name: {0: "NONE", **members} for name, members in schema.UNIONS.items()}
    for name, members in ours.items():
        theirs = {int(number): key for number, key in enums[name].items()}
        if theirs != members:
            wrong.append(f"{name}: wanted {theirs}, found {members}")
    return wrong


def same(ours: Any, theirs: Any) -> bool:
    """Whether what `parsed` read is what the generated code read, in the fields of TABLES."""
    if isinstance(ours, dict):
        return theirs is not None and all(same(ours[key], theirs[key]) for key in ours)
    if ours is None and isinstance(theirs, dict):
        return theirs["is"] not in schema.TABLES  # a kind of union that is not read
    if isinstance(ours, list):
        return (
            isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
        )
    return bool(ours == theirs)


def main() -> None:
    """Print one line for each model, and what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    models = variants() | {str(p): p.read_bytes() for p in parser.parse_args().models}
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "mediapipe"], check=True)
        paths, blobs, trees = [], [], []
        for i, (name, model) in enumerate(models.items()):
            paths.append(Path(folder) / f"{i}.tflite")
            paths[-1].write_bytes(model)
            if (tree := metadata.opened(model).about) is not None:
                blobs.append(Path(folder) / f"{i}.metadata")
                blobs[-1].write_bytes(metadata.metadata_bytes(model) or b"")
                trees.append((name, tree))
        for (name, model), path in zip(models.items(), paths, strict=True):
            said, why = classified(python, path)
            ours = next(row for row in accepted_by(model) if row["by"] == MEDIAPIPE)
            agree = ours["accepted"] == (said == "yes" and name not in EITHER)
            differences += not agree
            verdict = "same" if agree else "NOT THE SAME"
            verdict = "left to chance" if agree and name in EITHER else verdict
            print(f"{verdict}: {name}: MediaPipe {said} ({why});", end="")
            told = ours["reasons"] or ours["notes"]
            print(f" mobileclf {'yes' if ours['accepted'] else 'no'} ({'; '.join(told)})")
        done = run(python, SCHEMA, blobs)
    found = [line[5:] for line in done.stdout.splitlines() if line.startswith("FOUND")]
    if not found:
        raise SystemExit(f"the generated schema does not run:\n{done.stderr[-2000:]}")
    slots, enums, read = json.loads(found[0])
    wrong = schema_differences(slots, enums)
    wrong += [
        f"{name}: the generated code reads other values"
        for (name, tree), theirs in zip(trees, read, strict=True)
        if not same(tree, theirs)
    ]
    fields = sum(map(len, schema.TABLES.values()))
    print(f"{len(models)} models, {differences} answered otherwise than MediaPipe")
    print(f"{fields} fields of the schema and {len(trees)} files read, {len(wrong)} differences")
    print("\n".join(wrong), end="\n" if wrong else "")
    raise SystemExit(1 if differences or wrong else 0)


if __name__ == "__main__":
    main()
