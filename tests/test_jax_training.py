"""`mobileclf train --backend jax`: without TensorFlow, and in several processes as in one."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf.training import devices

pytest.importorskip("jax", reason="JAX is not installed (extra jax)")

SIZE, PHOTOS, BATCH = 32, 30, 16
OPTIONS = (
    "--backend", "jax", "--backbone", "small_cnn", "--image-size", str(SIZE), "--head", "8",
    "--epochs", "1", "--batch-size", str(BATCH), "--dropout", "0.2", "--augment", "flip",
)  # fmt: skip
LIMIT = 600  # seconds: of a hang, not of a machine that is busy with other things
TWO_DEVICES = "--xla_force_host_platform_device_count=2"
# Mean difference of an array's weights from those of one device, which sums a batch's gradients
# in another order. Where a gradient is all but 0, Adam makes a whole step of that rounding.
NEAR = 2e-4


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Noise with stripes across or down, in two class folders."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, place in zip(("across", "down"), np.mgrid[:SIZE, :SIZE], strict=True):
        (folder / label).mkdir()
        for i in range(PHOTOS):
            wave = 128 + 60 * np.sin(0.8 * place + rng.uniform(0, 6))[..., None]
            pixels = (wave + rng.normal(0, 20, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def trap(tmp_path_factory) -> Path:
    """A folder for the path with a `tensorflow` that notes it was imported and fails."""
    folder = tmp_path_factory.mktemp("trap")
    text = f"open({str(folder / 'imported')!r}, 'w').close()\nraise ImportError('it is a trap')\n"
    (folder / "tensorflow.py").write_text(text)
    return folder


def begin(run: Path, photos: Path, *options: str, trap: Path, **variables: str) -> subprocess.Popen:
    """The command, started on the CPU with these variables."""
    group = {variable for _, variable in devices.GROUP.values()}
    kept = {k: v for k, v in os.environ.items() if k not in {*group, "XLA_FLAGS"}}
    path = os.pathsep.join([str(trap), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "mobileclf", "train", "--data", str(photos), "--run", str(run),
         *OPTIONS, *options],
        env={**kept, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path, **variables},
        cwd=photos, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def done(process: subprocess.Popen) -> str:
    """What the command printed on stderr, once it has ended well."""
    try:
        _, said = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, said
    return str(said)


def weights(run: Path) -> dict[str, np.ndarray]:
    """Every array of the run's model, by its name in the file."""
    import h5py

    packed = zipfile.ZipFile(run / "model.keras").read("model.weights.h5")
    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(io.BytesIO(packed)) as file:
        file.visititems(keep)
    return found


@pytest.fixture(scope="module")
def alone(photos, trap, tmp_path_factory) -> Path:
    """The run of one process on one device."""
    run = tmp_path_factory.mktemp("alone") / "run"
    done(begin(run, photos, trap=trap))
    return run


def test_it_trains_without_tensorflow(alone, trap):
    assert not (trap / "imported").exists()
    subprocess.run(
        [sys.executable, "-c", "import tensorflow"],
        env={**os.environ, "PYTHONPATH": str(trap)}, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert (trap / "imported").exists(), "the trap catches nothing"
    (trap / "imported").unlink()
    record = json.loads((alone / "train.json").read_text())
    assert record["epochs"] == 1 and set(record["outputs"]) == {"model.keras", "history.csv"}
    text = json.dumps(record)
    for wanted in ('"backend": "jax"', '"platform": "cpu"', '"devices": 1', '"processes": 1'):
        assert wanted in text


def test_two_processes_train_as_one_with_the_same_batches(alone, photos, trap, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    told = dict(zip((v for _, v in devices.GROUP.values()), (address, "2", "1"), strict=True))
    both = tmp_path / "both"
    # One is told by flags and the other by variables.
    first = begin(both, photos, "--coordinator", address, "--processes", "2",
                  "--process-index", "0", trap=trap)  # fmt: skip
    second = begin(both, photos, trap=trap, **told)
    devices_of_one = begin(tmp_path / "one", photos, trap=trap, XLA_FLAGS=TWO_DEVICES)
    try:
        said = done(second)
        done(first)
        done(devices_of_one)
    finally:
        for process in (first, second, devices_of_one):
            process.kill()
    assert f"process 1 of 2: waiting for process 0 at {address}" in said
    ours, one, single = map(weights, (both, tmp_path / "one", alone))
    assert ours.keys() == one.keys() == single.keys() and len(ours) > 10
    for name, value in ours.items():
        np.testing.assert_array_equal(value, one[name])
        assert np.abs(value - single[name]).mean() < NEAR, name
    record = json.loads((both / "train.json").read_text())
    assert '"devices": 2' in json.dumps(record) and '"processes": 2' in json.dumps(record)
