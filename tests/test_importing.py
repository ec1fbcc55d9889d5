"""Reading somebody's model: every form that is read, every form that is not, and broken ones."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from mobileclf import errors
from mobileclf.errors import DataError, MobileclfError
from mobileclf.importing import child, formats, read
from mobileclf.models import graph
from mobileclf.records import sha256_file

from . import hostile

TORCH = "litert_torch.convert(model, example).export('model.tflite')"


def network(k: Any) -> Any:
    """The small classifier, with weights that make its answers differ."""
    model = hostile.network(k)
    random = np.random.default_rng(1)
    model.set_weights(
        [np.abs(random.normal(0.3, 0.2, w.shape)).astype("float32") for w in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """For each form a sound model, and what it answers to `hostile.pictures`."""
    folder = tmp_path_factory.mktemp("saved")
    two, three = network(tf_keras), network(keras)
    (folder / "run").mkdir()
    paths = {
        "two.h5": two, "two.keras": two, "two": two, "three.keras": three, "three.h5": three,
        "run": three,
    }  # fmt: skip
    found = {}
    for name, model in paths.items():
        target = folder / name / "model.keras" if name == "run" else folder / name
        more = {"save_format": "tf"} if name == "two" else {}
        model.save(target, **more)
        found[name] = (folder / name, np.asarray(model(hostile.pictures(), training=False)))
    record = {"outputs": {"model.keras": sha256_file(folder / "run" / "model.keras")}}
    (folder / "run" / "train.json").write_text(json.dumps(record))
    return found


FORMS = {
    "two.h5": ("h5", "Keras h5 of tf.keras 2."),
    "two.keras": ("keras", ".keras file of tf.keras 2."),
    "two": ("saved_model", "SavedModel of tf.keras, TensorFlow 2."),
    "three.keras": ("keras", ".keras file of Keras 3."),
    "three.h5": ("h5", "Keras h5 of Keras 3."),
    "run": ("run", "training run of Keras 3."),
}


class Here:
    """A process that is none: what it is told to do is done as it is started."""

    def __init__(self, command: list[str], **_: Any) -> None:
        child.main(command[-1])

    def poll(self) -> int:
        return 0

    def wait(self, timeout: float | None = None) -> int:
        return 0


@pytest.mark.parametrize("name", list(FORMS))
def test_every_form_is_read_equal(
    name: str, saved: dict[str, tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in ("two", "three.h5"):  # a process takes seconds to start
        monkeypatch.setattr(read.subprocess, "Popen", Here)
        monkeypatch.setattr(child.apart, "limit_memory", lambda: None)
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")  # a user's settings must not matter
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    path, wanted = saved[name]
    found = read.read_model(path)
    kind, words = FORMS[name]
    assert (found.kind, found.format[: len(words)]) == (kind, words)
    assert [what.split(" ")[1] for what in found.dropped] == ["(Dropout)"]
    flat = graph.build(keras, found.graph)
    np.testing.assert_allclose(flat(hostile.pictures(), training=False), wanted, atol=1e-5)
    assert np.ptp(wanted, axis=0).max() > 1e-3  # else all pictures are one to it


@pytest.mark.parametrize("name", list(FORMS))
def test_answers_are_the_models_own(
    name: str, saved: dict[str, tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wanted = saved[name]
    if name != "two.h5":
        monkeypatch.setattr(read.subprocess, "Popen", Here)
        monkeypatch.setattr(child.apart, "limit_memory", lambda: None)
    found = read.answers(path, hostile.pictures())
    assert found.own.dtype == found.flat.dtype == np.float32
    np.testing.assert_allclose(found.own, wanted, atol=1e-6)
    np.testing.assert_allclose(found.flat, wanted, atol=1e-5)


def test_a_lambda_ends_with_one_line(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = hostile.with_lambda(tf_keras, tmp_path / "evil.h5", mark)
    with pytest.raises(DataError) as caught:
        read.read_model(path, trust=True)  # trust is for SavedModels alone
    assert str(caught.value) == (
        f"{path}: layer 'note' (Lambda): a Lambda layer holds code, which is never run; replace "
        "it by Keras's own layers and save again"
    )
    assert not mark.exists()


def test_trust_loads_what_it_says(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = hostile.initializer_that_writes(tmp_path / "evil", mark)
    assert not mark.exists()
    found = read.read_model(path, trust=True)
    assert found.graph.shape == (hostile.SIZE, hostile.SIZE, 3)
    assert mark.exists()


# The protocol with the child


def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A sound file, and a child that does `body` in place of reading it."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.writestr(name, "")
    monkeypatch.setattr(
        read.apart, "command", lambda _, work: [sys.executable, "-c", body, str(work)]
    )
    return path


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("import os; os.abort()", DataError, "reading it ended the process that did so (SIGABRT)"),
        ("raise TypeError('oh')", MobileclfError, "a defect of mobileclf in reading it: TypeError"),
        ("import time; time.sleep(60)", DataError, "not read within 0.5 seconds"),
    ],
)
def test_a_child_that_fails(
    body: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    path = script(tmp_path, monkeypatch, body)
    if "sleep" in body:
        monkeypatch.setattr(read, "TIME_LIMIT", 0.5)
    with pytest.raises(error) as caught:
        read.read_model(path)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_childs_errors_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UsageError", "ProofError", "DataError", "EnvironmentProblem"):
        body = (
            "import json, sys, pathlib; pathlib.Path(sys.argv[1], 'answer.json').write_text("
            f"json.dumps({{'error': '{name}', 'message': 'said'}}))"
        )
        with pytest.raises(getattr(errors, name), match="^said$"):
            read.read_model(script(tmp_path, monkeypatch, body))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_leaves_no_child(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.writestr(name, "")
    pid = tmp_path / "pid"
    body = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))"
    code = (
        "import signal, sys; from pathlib import Path; from mobileclf.importing import read\n"
        # Python leaves interrupts ignored where whoever started it, such as a shell's &, did.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"read.apart.command = lambda *_: [sys.executable, '-c', {body + '; time.sleep(60)'!r}]\n"
        f"read.read_model(Path({str(path)!r}))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    parent.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_no_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"path": "X", "kind": "h5", "trust": False, "size": None, "action": child.READ}
    (tmp_path / child.REQUEST).write_text(json.dumps(request))

    def none_left(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(child.trust, "copy_h5", none_left)
    child.main(str(tmp_path))
    answer = json.loads((tmp_path / child.ANSWER).read_text())
    assert answer["message"] == "X: it needs more memory than this machine has"


# Forms that are not read


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return path


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model.pt", TORCH),
        ("model.pth", TORCH),
        ("last.ckpt", TORCH),
        ("model.safetensors", TORCH),
        ("model.onnx", "onnx2tf -i model.onnx"),
        ("frozen.pb", "a frozen graph of TensorFlow; convert it to .tflite"),
        ("variables.index", "a checkpoint of TensorFlow, weights without the network"),
        ("variables.data-00000-of-00001", "a checkpoint of TensorFlow"),
        ("saved_model.pb", "a part of a SavedModel; give its folder"),
        ("model.json", "tensorflowjs_converter"),
        ("model.mlmodel", "a Core ML model"),
        ("model.pkl", "a pickle, which is code and is never run"),
        ("model.joblib", "a pickle, which is code and is never run"),
        ("model.keras", "it is broken or cut off: get it again"),
        ("model.h5", "it is broken or cut off: get it again"),
        ("photo.jpg", "found another file"),
    ],
)
def test_other_files_are_named(name: str, advice: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"what is not read is no model")
    refused(path, advice)


def refused(path: Path, advice: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.kind_of(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert advice in message
    assert "\n" not in message


def test_other_contents_are_named(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "a.bin", "archive/data.pkl", "archive/version"), TORCH)
    refused(zipped(tmp_path / "b.zip", "x/saved_model.pb"), "a zipped SavedModel; unpack it")
    refused(zipped(tmp_path / "c.keras", "x"), "a zip without config.json")
    refused(zipped(tmp_path / "d.zip", "x"), "found another zip")
    (tmp_path / "e.bin").write_bytes(pickle.dumps({"a": np.zeros(3)}))
    refused(tmp_path / "e.bin", "a pickle, which is code and is never run")
    (tmp_path / "f.h5").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(tmp_path / "f.h5", "git lfs pull")
    (tmp_path / "empty.h5").touch()
    refused(tmp_path / "empty.h5", "found an empty file")
    refused(tmp_path / "missing.h5", "found nothing there")


def test_other_folders_are_named(tmp_path: Path) -> None:
    for name, inside, advice in (
        ("bundle", "bundle.json", "found a bundle, which is exported already"),
        ("started", "train.json", "a run without model.keras"),
        ("checkpoints", "model.index", "a checkpoint of TensorFlow"),
        ("photos", "a.jpg", "found another folder"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("{}")
        refused(tmp_path / name, advice)


def test_contents_count_more_than_names(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    for name, odd in (("two.h5", "model.keras"), ("three.keras", "model.h5")):
        path = shutil.copy(saved[name][0], tmp_path / odd)
        assert formats.kind_of(path) == FORMS[name][0]
    (tmp_path / "model.bin").write_bytes(b"\x1c\0\0\0TFL3" + bytes(20))
    assert formats.kind_of(tmp_path / "model.bin") == "tflite"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    path = shutil.copy(saved["two.h5"][0], tmp_path / "closed.h5")
    path.chmod(0)
    refused(path, "cannot be read (Permission denied)")


# Broken files of a form that is read


def answer_of(path: Path, tmp_path: Path) -> str:
    """What `child` says, without the cost of a process; these end before Keras is reached."""
    work = tmp_path / "work"
    work.mkdir()
    request = {
        "path": str(path), "kind": formats.kind_of(path), "trust": False, "size": None,
        "action": child.READ,
    }  # fmt: skip
    (work / child.REQUEST).write_text(json.dumps(request))
    child.main(str(work))
    answer = json.loads((work / child.ANSWER).read_text())
    assert answer["error"] == "DataError"
    message = str(answer["message"])
    assert "\n" not in message
    return message.replace(str(path), "X")


def cut(path: Path, target: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def test_a_cut_h5(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    path = cut(saved["two.h5"][0], tmp_path / "cut.h5")
    assert answer_of(path, tmp_path).startswith("X: a broken h5 file; get it again (")


def test_a_cut_zip(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    path = cut(saved["three.keras"][0], tmp_path / "cut.keras")
    refused(path, "it is broken or cut off: get it again")


def test_weights_of_a_zip_that_are_none(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    with zipfile.ZipFile(saved["three.keras"][0]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = np.random.default_rng(0).bytes(1000)
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert answer_of(path, tmp_path).startswith("X: a broken .keras file; get it again (")


def test_weights_only(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    keras.models.load_model(saved["three.keras"][0]).save_weights(tmp_path / "a.weights.h5")
    refused(tmp_path / "a.weights.h5", "weights without the network; save the whole model")
    path = tmp_path / "b.h5"
    with h5py.File(saved["two.h5"][0]) as file, h5py.File(path, "w") as other:
        file.copy("model_weights", other)
    wanted = "X: weights without the network; save the whole model with model.save, and give that"
    assert answer_of(path, tmp_path) == wanted


def test_a_configuration_that_is_none(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    path = shutil.copy(saved["two.h5"][0], tmp_path / "a.h5")
    hostile.edited_h5(path, lambda text: text[:-5])
    assert answer_of(path, tmp_path).startswith("X: its configuration is no JSON (")


@pytest.mark.parametrize("version", ["1.2.2", "4.0.0", "theano"])
def test_other_generations_of_keras(
    version: str, saved: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    path = shutil.copy(saved["two.h5"][0], tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = version
    assert answer_of(path, tmp_path) == (
        f"X: wanted a model of Keras 2 or 3, found one of Keras {version!r}; load it in Keras 2 "
        "and save it again"
    )


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("saved_model.pb", "X/saved_model.pb: broken or cut off; get it again"),
        ("keras_metadata.pb", "X/keras_metadata.pb: broken or cut off; get it again"),
    ],
)
def test_a_cut_saved_model(
    name: str, wanted: str, saved: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    path = shutil.copytree(saved["two"][0], tmp_path / "model")
    cut(path / name, path / name, 0.7)
    assert answer_of(path, tmp_path) == wanted


def test_missing_variables(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    path = shutil.copytree(saved["two"][0], tmp_path / "model")
    shutil.rmtree(path / "variables")
    assert answer_of(path, tmp_path) == (
        "X: variables/variables.index is missing; copy the whole folder"
    )


def test_shapes_beyond_all_memory(saved: dict[str, tuple[Path, Any]], tmp_path: Path) -> None:
    """Only Keras can tell: a sound file but for a layer of 10 billion units."""
    path = shutil.copy(saved["two.h5"][0], tmp_path / "a.h5")
    hostile.edited_h5(path, lambda text: text.replace('"units": 3', '"units": 10000000000'))
    with pytest.raises(DataError) as caught:
        read.read_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
