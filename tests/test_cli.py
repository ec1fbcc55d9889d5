"""The command line: mistakes end in one line and the right exit code, help loads nothing heavy."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf import cli, pipeline
from mobileclf.settings import OPTIONS

HEAVY = (
    "tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "ai_edge_litert",
    "tflite_runtime", "jax", "sklearn", "pandas", "scipy", "matplotlib", "imagehash", "h5py",
)  # fmt: skip
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in a folder of its own, as a person would."""

    def call(
        *arguments: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mobileclf", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return call


def photos(folder: Path, classes: Mapping[str, int]) -> Path:
    """Class folders with so many pictures of noise each, no two alike."""
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code, done.stderr
    assert len(said) == 1, done.stderr
    assert re.search(words, said[0]), said[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def make_bad_data(folder: Path, defect: str) -> None:
    if defect == "empty":
        folder.mkdir()
    elif defect == "one class":
        photos(folder, {"a": 12})
    elif defect == "one image":
        photos(folder, {"a": 12, "b": 1})
    elif defect == "unreadable":
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
            for i in range(3):
                (folder / name / f"{i}.jpg").write_text("no picture")


@pytest.mark.parametrize("defect", ["missing", "empty", "one class", "one image", "unreadable"])
def test_bad_data_is_4_and_found_before_bad_weights(run: Run, tmp_path: Path, defect: str) -> None:
    make_bad_data(tmp_path / "data", defect)
    done = run("export", "--int8", "--data", "data", "--weights", "absent.h5")
    assert_one_line(done, 4, r"\bdata\b|class 'b'")
    assert "--weights" not in done.stderr


def test_a_missing_folder_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("dataset", "nonexistent"), 4, "nonexistent.*wanted.*found.*check")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["absent", "no h5", "wrong shape"])
def test_wrong_weights_are_4(run: Run, tmp_path: Path, kind: str) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    weights = tmp_path / "weights.h5"
    if kind == "no h5":
        weights.write_text("weights")
    elif kind == "wrong shape":
        import h5py

        with h5py.File(weights, "w") as file:
            file.attrs["layer_names"] = [b"conv"]
            group = file.create_group("conv")
            group.attrs["weight_names"] = [b"conv/kernel:0"]
            group.create_dataset("conv/kernel:0", data=np.zeros((3, 3, 3, 7), np.float32))
    done = run(
        "train", "--data", "data", "--weights", weights, "--backbone", "mobilenet_v2",
        "--image-size", 32, "--epochs", 1,
    )  # fmt: skip
    assert_one_line(done, 4, r"--weights .*weights\.h5: ")


def test_a_sigmoid_on_three_classes_is_2_and_not_remembered(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12, "c": 12})
    done = run("train", "--data", "data", "--weights", "none", "--head", "8,sigmoid", "--run", "r")
    assert_one_line(done, 2, "--head 8,sigmoid: sigmoid wants two classes, found 3")
    assert not (tmp_path / "r" / "config.json").exists()


def test_a_run_goes_on_from_another_working_directory(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    assert run("dataset", "data", "--run", "r").returncode == 0
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "mobileclf", "train", "--run", "../r", "--weights", "absent.h5"],
        cwd=tmp_path / "elsewhere", capture_output=True, text=True,
    )  # fmt: skip
    assert "dataset: up to date" in done.stderr
    assert_one_line(done, 4, "--weights absent.h5: there is no such file")


def test_imagenet_weights_without_a_network_are_5(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    closed = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = run(
        "train", "--data", "data", "--backbone", "mobilenet_v2", "--image-size", 32,
        env={**closed, "no_proxy": "", "NO_PROXY": "", "KERAS_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert_one_line(done, 5, "imagenet")


def test_an_output_that_cannot_be_written_is_5(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    (tmp_path / "file").write_text("")
    # Below a file there can be no folder, whoever runs the test.
    done = run("export", "--int8", "--data", "data", "--out", "file/out", "--weights", "absent.h5")
    assert_one_line(done, 5, r"cannot write in file/out")
    assert_one_line(run("dataset", "data", "--run", "file/run"), 5, r"cannot write in file/run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export"], "--int8"),
        (["export", "--int8", "--bogus"], "--bogus"),
        (["export", "--int8", "--epochs", "0"], "--epochs 0: wanted a whole number from 1"),
        (["export", "--int8", "--epochs", "many"], "--epochs"),
        (["export", "--int8", "--recipe", "seed-pixels"], "pixel-csv: the drawn sample is class"),
        (["export", "--int8", "--classes", "a,b"], "--classes a,b: it is for --form"),
        (["export", "--int8", "--backbone", "vgg"], "wanted one of inception_v3"),
        (["export", "--int8", "--weights", "imagenet"], "none for small_cnn"),
        (["train", "--image-size", "8"], "--image-size 8"),
        (["frobnicate"], "frobnicate"),
        (["dataset"], "SOURCE"),
        (["predict", "bundle"], "IMAGES"),
    ],
)
def test_wrong_usage_is_2(run: Run, arguments: list[str], words: str) -> None:
    assert_one_line(run(*arguments), 2, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("epoch = 3", "unknown key 'epoch'"), ("epochs = 0", "--epochs 0"), ("epochs", "TOML")],
)
def test_a_wrong_configuration_file_is_2(run: Run, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mobileclf.toml").write_text(text)
    assert_one_line(run("export", "--int8"), 2, words)


def test_harmful_is_required_where_there_are_groups(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a-Good": 12, "b-Bad": 12, "c-Bad": 12})
    done = run("export", "--int8", "--data", "data", "--weights", "absent.h5")
    assert_one_line(done, 2, "--harmful.*Bad")
    done = run("export", "--int8", "--data", "data", "--harmful", "Worse")
    assert_one_line(done, 2, "Worse")


def test_a_bundle_that_is_none_is_4(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(run("predict", "empty", "x.jpg"), 4, "bundle")


def test_results_are_on_stdout_and_messages_on_stderr(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    done = run("dataset", "data", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(
        Path(tmp_path, "runs/data/dataset.json").read_text()
    )
    assert "plan:" in done.stderr and "plan:" not in done.stdout
    quiet = run("dataset", "data", "-q")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert "validation" in quiet.stdout


def test_a_later_command_goes_on_with_the_runs_photos(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    assert run("dataset", "data", "--name", "x", "--seed", 3).returncode == 0
    done = run("train", "--name", "x", "--weights", "absent.h5")
    assert_one_line(done, 4, "absent.h5")
    assert "dataset: up to date" in done.stderr
    config = json.loads((tmp_path / "runs/x/config.json").read_text())
    # The option that was refused is not what the next command goes on with.
    remembered = (config["data"], config["seed"], config["weights"])
    assert remembered == (str(tmp_path / "data"), 3, "imagenet")


def test_the_configuration_file_wins_over_what_the_run_was_made_with(
    run: Run, tmp_path: Path
) -> None:
    photos(tmp_path / "data", {"a": 12, "b": 12})
    assert run("dataset", "data", "--name", "x").returncode == 0
    (tmp_path / "c.toml").write_text("epochs = 5\nbackbone = 'small_cnn'\n")
    options = {"name": "x", "run": tmp_path / "runs" / "x"}
    found = pipeline.settings_for(options, "train", config=tmp_path / "c.toml")
    assert (found.epochs, found.backbone, found.weights) == ("5", "small_cnn", "none")
    assert found.data == tmp_path / "data"


def test_two_commands_do_not_share_a_run(run: Run, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    photos(tmp_path / "data", {"a": 12, "b": 12})
    (tmp_path / "taken").mkdir()
    with (tmp_path / "taken" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_one_line(run("dataset", "data", "--run", "taken"), 5, "another mobileclf")
    assert run("dataset", "data", "--run", "taken").returncode == 0


def _until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if found() or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("command", ["quantize", "score", "parity"])
def test_a_mistyped_run_is_not_begun_on_the_drawn_sample(
    run: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("typo", "empty"):
        done = run(command, "--run", place)
        words = (
            f"error: {command}: wanted a run, found none in {place}; give --run or --name of one, "
            "or --data with photos to begin one"
        )
        assert_one_line(done, 2, words)
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_interrupted_is_130(tmp_path: Path) -> None:
    photos(tmp_path / "data", {"a": 300, "b": 300})
    # As at a terminal: what is started in the background inherits that it is ignored.
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from mobileclf.cli import main\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "dataset", "data"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _until((tmp_path / "runs/data/run.log").exists, process)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert out == "" and "error: interrupted" in said and "Traceback" not in said
    assert not (tmp_path / "runs/data/dataset.json").exists()


def test_a_defect_is_1_with_its_traceback_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.stages.pipeline, "run_until", broken)
    (tmp_path / "r").mkdir()
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--run", "r"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ZeroDivisionError: one two" in said and "r/run.log" in said
    assert "Traceback" in (tmp_path / "r" / "run.log").read_text()


def test_a_full_disk_is_5_wherever_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.keras")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.stages.pipeline, "run_until", full)
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--run", "r"])
    assert end.value.code == 5
    said = capsys.readouterr().err
    assert said.startswith("error: model.keras: No space left on device; free space")


def heavy_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    probe = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    return loaded & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["predict", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
from mobileclf.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert not end.code
"""
    assert heavy_after(code) == set()


def test_the_probe_for_heavy_imports_can_fail() -> None:
    assert heavy_after("import h5py") >= {"h5py"}


def test_every_setting_is_a_flag_with_help() -> None:
    assert tuple(sorted(cli.stages.TABLE)) == tuple(sorted(OPTIONS))
    assert set(cli.stages.options_of("bundle")) == set(OPTIONS)
    assert "epochs" not in cli.stages.options_of("dataset")


def test_help_states_the_defaults_there_are() -> None:
    from mobileclf.settings import Settings

    plain = Settings()
    for name, option in cli.stages.TABLE.items():
        value = getattr(plain, name)
        if value is None:
            continue
        stated = option.help.rpartition("[")[2].rstrip("].")
        if isinstance(value, bool):
            assert (stated == "yes") is value, name
        elif isinstance(value, (int, float)):
            assert float(stated) == value, name
        else:
            assert stated == str(value), name
