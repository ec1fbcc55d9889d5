"""What kind of model lies at a path: by what is in it, then by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from mobileclf.errors import DataError
from mobileclf.records import read_json, sha256_file
from mobileclf.tflite.graph import IDENTIFIER

Kind = Literal["keras", "h5", "saved_model", "run", "tflite"]

WANTED = "wanted a .keras, .h5 or .tflite file, a SavedModel or a run of mobileclf"
HDF5 = b"\x89HDF\r\n\x1a\n"
TORCH = (
    "a PyTorch model; convert it first, with litert-torch "
    "(`litert_torch.convert(model, example).export('model.tflite')`), then give --model "
    "model.tflite"
)
ONNX = "an ONNX model; convert it first, with onnx2tf (`onnx2tf -i model.onnx`), then give --model "
ONNX += "the .tflite that it writes"
CHECKPOINT = (
    "a checkpoint of TensorFlow, weights without the network; load it in the program that trained "
    "it, save the whole model with model.save('model.keras'), and give that"
)
WEIGHTS = "weights without the network; save the whole model with model.save"
PICKLE = (
    "a pickle, which is code and is never run; save the model itself: model.save('model.keras')"
)
ADVICE = {
    ".pt": TORCH,
    ".pth": TORCH,
    ".ckpt": TORCH,
    ".safetensors": TORCH,
    ".torchscript": TORCH,
    ".ptl": TORCH,
    ".pte": "an ExecuTorch program; convert the PyTorch model itself, with litert-torch "
    "(`litert_torch.convert(model, example).export('model.tflite')`)",
    ".onnx": ONNX,
    ".pb": "a frozen graph of TensorFlow; convert it to .tflite "
    "(`tf.compat.v1.lite.TFLiteConverter.from_frozen_graph`), or give the folder of a SavedModel",
    ".pbtxt": "a graph of TensorFlow as text; give the folder of a SavedModel, or a .tflite",
    ".index": CHECKPOINT,
    ".mlmodel": "a Core ML model; give the Keras model that it was converted from",
    ".mlpackage": "a Core ML model; give the Keras model that it was converted from",
    ".pkl": PICKLE,
    ".pickle": PICKLE,
    ".joblib": PICKLE,
    ".npz": "arrays without a network; save the whole model with model.save",
    ".npy": "an array without a network; save the whole model with model.save",
    ".task": "a bundle of MediaPipe; give the .tflite that is in it",
    ".json": "a description without weights; a TensorFlow.js model goes back with "
    "`tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras model.json "
    "model.h5`, and then give that",
    ".bin": "weights without the network; give a .keras, .h5 or .tflite file",
}


def kind_of(path: Path, *, wanted: str = WANTED) -> Kind:
    """What lies at `path`. Raises DataError, with `wanted` and what to do, for what is not read.

    "keras": a `.keras` zip, of Keras 3 or of tf.keras 2.12 and later. "h5": a whole model of
    either. "saved_model", "run": folders. "tflite": a file.
    """
    try:
        if path.is_dir():
            return _of_folder(path, wanted)
        if not path.exists():
            raise DataError(f"{path}: {wanted}; found nothing there")
        if not path.is_file():
            raise DataError(f"{path}: {wanted}; found a pipe or device")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return _of_file(path, head, wanted)


def _of_folder(path: Path, wanted: str) -> Kind:
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    if (path / "bundle.json").exists():
        raise DataError(
            f"{path}: {wanted}; found a bundle, which is exported already; give the model that it "
            f"came from, or {path / 'model.tflite'}"
        )
    if (path / "train.json").is_file():
        return _of_run(path)
    if path.suffix == ".mlpackage":
        found = ADVICE[".mlpackage"]
    elif (path / "checkpoint").is_file() or any(path.glob("*.index")):
        found = CHECKPOINT
    elif (path / "saved_model.pbtxt").exists():
        found = "a SavedModel as text; save it again with model.save"
    else:
        found = "another folder"
    raise DataError(f"{path}: {wanted}; found {found}")


def _of_run(path: Path) -> Kind:
    """A run's model is the one that its record names, as it was then."""
    record = read_json(path / "train.json")
    name = record.get("model", "model.keras")
    if name != "model.keras":
        raise DataError(f"{path}: a run of a .tflite; give the file itself, {path / name}")
    file = path / name
    if not file.is_file():
        raise DataError(f"{path}: a run without model.keras; train it first (`mobileclf train`)")
    if record.get("outputs", {}).get(name) != sha256_file(file):
        raise DataError(
            f"{path}: model.keras is not as train.json has it; run `mobileclf train` again, or "
            "give the file itself"
        )
    return "run"


def _of_file(path: Path, head: bytes, wanted: str) -> Kind:
    name = path.name.lower()
    advice = ADVICE.get(path.suffix.lower())
    if not head:
        raise DataError(f"{path}: {wanted}; found an empty file")
    if head.startswith(b"version https://"[: len(head)]):
        raise DataError(
            f"{path}: {wanted}; found a pointer of Git LFS; fetch the file itself (`git lfs pull`)"
        )
    if head[4:8] == IDENTIFIER:
        return "tflite"
    if head.startswith(HDF5):
        if name.endswith(".weights.h5"):
            raise DataError(f"{path}: {WEIGHTS}, and give that")
        return "h5"
    if zipfile.is_zipfile(path):
        return _of_zip(path, advice, wanted)
    if name == "saved_model.pb":
        raise DataError(f"{path}: a part of a SavedModel; give its folder, {path.parent}")
    if path.suffix.lower() == ".data-00000-of-00001":
        advice = CHECKPOINT
    if advice != TORCH and head[:1] == b"\x80" and head[1:2] <= b"\x05":
        advice = PICKLE  # the first two bytes of every pickle since protocol 2
    if advice is None and path.suffix.lower() in (".keras", ".h5", ".hdf5", ".tflite"):
        advice = "other bytes than such a file has; it is broken or cut off: get it again"
    raise DataError(f"{path}: {wanted}; found {advice or 'another file'}")


def _of_zip(path: Path, advice: str | None, wanted: str) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except Exception as error:  # a broken zip raises whatever zipfile stumbles on
        raise DataError(f"{path}: a broken zip; get it again ({error})") from error
    if "config.json" in names and {"model.weights.h5", "model.weights.npz"} & names:
        return "keras"
    if any(name.endswith(("/data.pkl", "constants.pkl")) for name in names):
        advice = TORCH
    elif any(name.endswith("saved_model.pb") for name in names):
        advice = "a zipped SavedModel; unpack it and give the folder"
    elif path.suffix.lower() == ".keras":
        advice = "a zip without config.json and model.weights.h5; save it again with model.save"
    raise DataError(f"{path}: {wanted}; found {advice or 'another zip'}")
