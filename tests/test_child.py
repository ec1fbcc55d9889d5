"""The process that trains on JAX: what it is given, what comes back, and how it ends.

Here it does something else in place of training, so that neither JAX nor TensorFlow is needed.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mobileclf import errors, pipeline, progress
from mobileclf.config import make_settings
from mobileclf.errors import DataError, EnvironmentProblem, MobileclfError, UsageError
from mobileclf.settings import Settings
from mobileclf.training import child, devices

# In the place of the train stage, whose imports would take the time of these tests.
STAND_IN = """
import os, sys
from pathlib import Path
from types import ModuleType

def trained(folder, settings):
{body}

stage = sys.modules["mobileclf.stages.train"] = ModuleType("mobileclf.stages.train")
stage.trained = trained
import mobileclf.stages
mobileclf.stages.train = stage
from mobileclf.training.child import main
"""
GROUP = {"backend": "jax", "coordinator": "localhost:1", "processes": 2}


@pytest.fixture
def does(monkeypatch, tmp_path):
    """does(body, **options): `child.run` on a run in tmp_path, where training is `body`."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(child, "__name__", "stand_in")
    for _, variable in devices.GROUP.values():
        monkeypatch.delenv(variable, raising=False)

    def run(body: str, settings: Settings | None = None, **options: object) -> dict[str, object]:
        (tmp_path / "modules").mkdir(exist_ok=True)
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (tmp_path / "modules/stand_in.py").write_text(STAND_IN.format(body=lines))
        given = {"run": tmp_path / "run", "backend": "jax", **options}
        return child.run(tmp_path / "run", settings or make_settings(given))

    return run


def test_it_is_given_folder_and_settings_and_gives_back_the_record(does, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.chdir(tmp_path)
    settings = make_settings(
        {"run": tmp_path / "run", "backend": "jax", "data": Path("data"), "epochs": 3}
    )
    # With another --config the one that lies here was not read.
    Path("mobileclf.toml").write_text("cluster = 'another:1'")
    found = does(
        "assert type(settings.run) is type(settings.data) is type(folder) is type(Path())\n"
        "return {'folder': str(folder), 'name': settings.name, 'data': str(settings.data),\n"
        "        'epochs': settings.epochs, 'cluster': settings.cluster,"
        "        'backend': os.environ['KERAS_BACKEND']}",
        settings,
    )  # fmt: skip
    assert found == {
        "folder": str(tmp_path / "run"), "name": "data", "data": "data", "epochs": "3",
        "cluster": None, "backend": "jax",
    }  # fmt: skip
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_tensorflow_cannot_be_imported_in_it(does):
    body = (
        "try: import tensorflow\nexcept ImportError:"
        " return {'blocked': 'tensorflow' not in sys.modules}\nreturn {}"
    )
    assert does(body) == {"blocked": True}


@pytest.mark.parametrize("kind", [UsageError, DataError, errors.ProofError, EnvironmentProblem])
def test_an_error_comes_back_as_what_it_was(does, kind):
    body = f"from mobileclf.errors import *\nraise errors.{kind.__name__}('wanted ü, found x')"
    with pytest.raises(kind, match="^wanted ü, found x$") as caught:
        does(body.replace("from mobileclf.errors import *", "from mobileclf import errors"))
    assert type(caught.value) is kind


def test_an_error_of_the_system_does_too(does):
    with pytest.raises(OSError, match="No space left") as caught:
        does(f"raise OSError({errno.ENOSPC}, 'No space left', 'features.rows')")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "features.rows")


@pytest.mark.parametrize("error", ["RuntimeError('RESOURCE_EXHAUSTED: Out of')", "MemoryError()"])
def test_memory_that_ran_out_is_said(does, error):
    with pytest.raises(EnvironmentProblem, match="memory ran out; give a smaller --batch-size"):
        does(f"raise {error}")


def test_another_error_is_a_defect_whose_traceback_is_in_the_log(does, capfd):
    with pytest.raises(MobileclfError, match="a defect in mobileclf: KeyError: 'some key'") as it:
        does("raise KeyError('some key')")
    assert type(it.value) is MobileclfError and it.value.exit_code == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_being_ended_is_said():
    one = make_settings({"backend": "jax"})
    said = str(child._ended(-signal.SIGKILL, one))
    assert "ended by SIGKILL (memory may have run out); run the same command again" in said
    assert "ended by SIGABRT; run" in str(child._ended(-signal.SIGABRT, one))
    one_of_two = make_settings({**GROUP, "process_index": 0})
    said = str(child._ended(-signal.SIGABRT, one_of_two))
    assert said.startswith("--processes 2: another process did not come within 300 seconds, or")
    assert "ended by SIGKILL" in str(child._ended(-signal.SIGKILL, one_of_two))
    assert type(child._ended(3, one)) is MobileclfError


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_a_child_that_is_killed(does):
    with pytest.raises(EnvironmentProblem, match="ended by SIGKILL"):
        does("import signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_messages_are_shown_and_the_rest_is_not_among_them(does, capsys):
    """Where stderr is none of the system's files, as here and in a notebook."""
    body = (
        "from mobileclf import progress\nprogress.say('plan ✓')\nprogress.warn('[x] slow')\n"
        "print('chatter')\nreturn {}"
    )
    does(body)
    assert capsys.readouterr().err == "plan ✓\nwarning: [x] slow\n"
    progress.console.quiet = True
    try:
        does(body)
    finally:
        progress.console.quiet = False
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="descriptors are not passed on")
def test_messages_go_where_this_process_has_them(does, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.console, "_file", (tmp_path / "shown").open("w"))
    does("from mobileclf import progress\nprogress.say('plan')\nreturn {}")
    monkeypatch.setattr(progress.console, "quiet", True)
    does("from mobileclf import progress\nprogress.say('plan')\nreturn {}")
    assert (tmp_path / "shown").read_text() == "plan\n"


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_it_ends_when_its_parent_is_killed(does, tmp_path):
    with pytest.raises(DataError):
        does("from mobileclf.errors import DataError\nraise DataError('')")  # writes the stand-in
    module = tmp_path / "modules/stand_in.py"
    sleeping = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n    import time"
    module.write_text(STAND_IN.format(body=f"    {sleeping}; time.sleep(60)"))
    parent = (
        f"import sys; sys.path.insert(0, {str(module.parent)!r})\n"
        "from mobileclf.config import make_settings\nfrom mobileclf.training import child\n"
        "child.__name__ = 'stand_in'\nfrom pathlib import Path\n"
        "child.run(Path('run'), make_settings({'backend': 'jax'}))"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path)
    try:
        ends = time.monotonic() + 30
        pid = tmp_path / "pid"
        while not (pid.is_file() and pid.read_text()):
            assert time.monotonic() < ends and process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    while _runs(int(pid.read_text())):
        assert time.monotonic() < ends
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_is_missing_is_said_early(monkeypatch):
    monkeypatch.setattr(child, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'mobileclf\[jax\]'"):
        child.check(make_settings({"backend": "jax"}))
    child.check(make_settings({}))
    monkeypatch.setattr(child, "find_spec", lambda name: name)
    child.check(make_settings({"backend": "jax"}))
    with pytest.raises(UsageError, match="--process-index: wanted with --coordinator"):
        child.check(make_settings(GROUP))
    whole = {**GROUP, "process_index": 1}
    child.check(make_settings(whole))
    with pytest.raises(UsageError, match="--processes 2: wanted --backend jax, found tensorflow"):
        child.check(make_settings({**whole, "backend": "tensorflow"}))


def test_that_tensorboard_is_missing_is_said_before_the_photos_are_read(monkeypatch, tmp_path):
    asked = make_settings({"tensorboard": True, "run": tmp_path})
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'mobileclf\[tensorboard\]'"):
        child.check(asked)
    (tmp_path / "train.json").touch()
    child.check(asked)


def test_what_does_not_train_follows_nobody(monkeypatch, tmp_path):
    one = make_settings({**GROUP, "process_index": 1, "run": tmp_path / "run"})
    alone = make_settings({**GROUP, "backend": "tensorflow", "process_index": 1, "run": tmp_path})
    monkeypatch.setattr(child, "find_spec", lambda name: name)
    monkeypatch.setattr(child, "follow", lambda settings, verbose: {"followed": settings.name})

    class Reached(Exception):
        pass

    def locked(folder):
        raise Reached

    monkeypatch.setattr(pipeline, "_locked", locked)
    assert pipeline.run_until(one, "train") == pipeline.run_until(one, "bundle")
    for settings in (one, alone):
        with pytest.raises(Reached):
            pipeline.run_until(settings, "dataset")
    with pytest.raises(UsageError, match="wanted --backend jax"):
        pipeline.run_until(alone, "train")


def test_all_but_the_first_process_follow():
    assert not child.follows(make_settings({"backend": "jax"}))
    assert not child.follows(make_settings({**GROUP, "process_index": 0}))
    assert child.follows(make_settings({**GROUP, "process_index": 1}))


@pytest.fixture
def follower(tmp_path, monkeypatch):
    """Settings of process 1 of 2; its training is noted in `runs`."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(devices, "ASK", 0)
    return make_settings({**GROUP, "process_index": 1, "run": tmp_path / "run"})


def test_a_follower_trains_once_the_first_process_answers(follower, monkeypatch, capfd):
    monkeypatch.setattr(devices, "await_first", lambda group, seconds: iter([None, None]))
    monkeypatch.setattr(child, "run", lambda folder, settings: print("chatter") or {})
    assert child.follow(follower) == {}
    assert "process 1 of 2: waiting for process 0 at localhost:1" in capfd.readouterr().err
    assert (follower.run_folder / "run.1.log").read_text() == "chatter\n"


def test_a_follower_writes_no_curves(follower, monkeypatch):
    monkeypatch.setattr(devices, "await_first", lambda group, seconds: iter(()))
    monkeypatch.setattr(child, "run", lambda folder, settings: {"curves": settings.tensorboard})
    assert child.follow(replace(follower, tensorboard=True)) == {"curves": False}


def test_a_follower_of_a_run_that_is_trained_has_nothing_to_do(follower, monkeypatch, capsys):
    asked = []
    record = follower.run_folder / "train.json"
    monkeypatch.setattr(
        child, "_is_trained", lambda settings: asked.append(1) or record.read_text() == "newer"
    )

    def waited(group, seconds):
        for text in ("", "older", "older", "newer"):
            if text:
                record.write_text(text)
                os.utime(record, ns=(0, ord(text[0])))
            yield
        raise AssertionError("waited on")

    monkeypatch.setattr(devices, "await_first", waited)
    monkeypatch.setattr(child, "run", None)
    assert child.follow(follower) == {}
    assert len(asked) == 2 and "train: up to date" in capsys.readouterr().err


def test_a_follower_gives_up(follower, monkeypatch):
    monkeypatch.setattr(child, "PATIENCE", 0)
    with pytest.raises(EnvironmentProblem, match="wanted an answer of process 0 within 0 seconds"):
        child.follow(follower)


def test_whether_a_run_is_trained_is_asked_of_its_records(follower, monkeypatch):
    assert not child._is_trained(follower)
    monkeypatch.setattr(child, "is_current", lambda *given: True)
    assert child._is_trained(follower)

    def torn(step, settings):
        raise DataError("the first process is at work on it")

    monkeypatch.setattr(child, "inputs_of", torn)
    assert not child._is_trained(follower)
