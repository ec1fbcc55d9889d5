"""Work on many items: the same results in the same order, wherever they are made."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from mobileclf import parallel
from mobileclf.errors import DataError, EnvironmentProblem, UsageError
from mobileclf.parallel import address_of, each
from mobileclf.tflite.interpreter import score_photos
from mobileclf.tflite.runtimes import OLDEST, at_hand
from tests.cluster import dask_cluster
from tests.models import photos, tiny_int8


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with dask_cluster() as address:
        yield address


@pytest.fixture(params=["here", "cluster"])
def where(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "here" else request.getfixturevalue("cluster")


def square(number: int) -> tuple[int, int]:
    time.sleep(0.001)
    return number * number, os.getpid()


def fail_at_37(number: int) -> int:
    if number >= 37:
        raise DataError(f"number {number} is bad")
    return number


def divide_by_zero(number: int) -> float:
    return number / 0


def end_the_process(number: int) -> int:
    os._exit(1)


def sleep_long(number: int) -> None:
    time.sleep(60)


def look_from_here_alone(path: str) -> str:
    return "a file" if multiprocessing.parent_process() is None else "nothing"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "kind", "at"),
    [
        ("tcp://10.0.0.1:8786", "dask", "10.0.0.1:8786"),
        ("dask://scheduler:8786", "dask", "scheduler:8786"),
        ("scheduler:8786", "dask", "scheduler:8786"),
        ("[::1]:8786", "dask", "[::1]:8786"),
        ("ray://head:10001", "ray", "head:10001"),
        ("ray:auto", "ray", "auto"),
    ],
)
def test_addresses(text: str, kind: str, at: str) -> None:
    address = address_of(text)
    assert (address.kind, address.where, address.text) == (kind, at, text)


@pytest.mark.parametrize(
    "text",
    ["", "auto", "host", "host:", ":8786", "tcp://host", "host:99999", "host:port", "ray:host:1",
     "http://host:8786", "tcp://host:8786/x", "tcp://user@host:8786", "ray:", "tcp://[::1:1"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="wanted host:port, tcp://host:port or dask://host:port"):
        list(each(square, [1], "x", cluster=text))


@pytest.mark.parametrize("small", [False, True])
def test_results_come_in_order_with_progress(
    where: str | None, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    advance = Progress.advance
    monkeypatch.setattr(
        Progress, "advance", lambda *given: (steps.append(given[1:]), advance(*given))
    )
    got = list(each(square, range(300), "squares", cluster=where, small=small))
    assert [value for value, _ in got] == [number * number for number in range(300)]
    assert len(steps) == 300
    processes = {process for _, process in got}
    if where is None:
        assert processes == {os.getpid()}
    else:
        assert len(processes) == 2 and os.getpid() not in processes


def test_nothing_to_do_needs_no_cluster() -> None:
    assert list(each(square, [], "x", cluster=f"127.0.0.1:{free_port()}")) == []


def test_an_error_comes_as_it_is_after_the_results_before_it(where: str | None) -> None:
    got = []
    with pytest.raises(DataError, match="^number 37 is bad$"):
        for value in each(fail_at_37, range(200), "x", cluster=where):
            got.append(value)
    assert got == list(range(37))


def test_a_defect_keeps_its_type_and_place(where: str | None) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(each(divide_by_zero, [1], "x", cluster=where))
    assert any(entry.name == "divide_by_zero" for entry in caught.traceback)


def test_results_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.effective_n_jobs", lambda _: 2)
    done, lock = [], threading.Lock()

    def note(number: int) -> int:
        with lock:
            done.append(number)
        return number

    results = each(note, range(10_000), "x")
    taken = [next(results) for _ in range(200)]
    time.sleep(0.2)  # time enough for all of them
    assert taken == list(range(200))
    assert 200 <= len(done) <= 200 + 2 * parallel.TASKS * parallel.BATCH
    results.close()  # type: ignore[attr-defined]


def test_many_small_results_come_from_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "MANY", 100)
    got = list(each(square, range(100), "x", small=True))
    assert [value for value, _ in got] == [number * number for number in range(100)]
    assert os.getpid() not in {process for _, process in got}
    with pytest.raises(DataError, match="^number 37 is bad$"):
        list(each(fail_at_37, range(100), "x", small=True))
    with pytest.raises(EnvironmentProblem, match="ended from outside"):
        list(each(end_the_process, range(100), "x", small=True))


@pytest.mark.parametrize("runtime", ["ai-edge-litert", OLDEST])
def test_scores_are_those_of_this_machine(cluster: str, runtime: Any) -> None:
    if not at_hand(runtime):
        pytest.skip(f"{runtime} exists for Python < 3.12 on Linux")
    wanted = score_photos(tiny_int8(), photos(40), title="x", runtime=runtime)
    got = score_photos(tiny_int8(), photos(40), title="x", runtime=runtime, cluster=cluster)
    assert got.dtype == wanted.dtype and len(np.unique(wanted, axis=0)) > 1
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("module", "address", "extra"),
    [("dask.distributed", "host:1", "cluster"), ("ray", "ray:auto", "ray")],
)
def test_a_missing_extra_is_named(
    module: str, address: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        EnvironmentProblem, match=rf"not installed; `pip install 'mobileclf\[{extra}\]'`"
    ):
        list(each(square, [1], "x", cluster=address))


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask.distributed", reason="needs Dask (extra dev)")
    monkeypatch.setattr(parallel, "CONNECT", 1)
    start = time.monotonic()
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(EnvironmentProblem, match=f"--cluster {address}: cannot be reached"):
        list(each(square, [1], "x", cluster=address))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EnvironmentProblem, match="does not answer as a Dask cluster does"):
            list(each(square, [1], "x", cluster=address))
    assert time.monotonic() - start < 8


def test_a_cluster_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CONNECT", 2)
    with dask_cluster(workers=0) as address:
        with pytest.raises(EnvironmentProblem, match="has no worker, waited 2 s; start some with"):
            list(each(square, [1], "x", cluster=address))


Answers = Callable[..., Mapping[str, Any]]


def answering(**changes: object) -> Answers:
    """Two workers like this machine, but for what the second one says of a package or path."""

    def run(function: Callable[[str], Any], given: str) -> Mapping[str, Any]:
        same = parallel.version_of(given) if function is metadata.version else function(given)
        same = metadata.PackageNotFoundError(given) if same is None else same
        return {"one": same, "two": changes.get(Path(given).name, same)}

    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mobileclf": "0.0.9"}, "worker two has mobileclf 0.0.9, here it is"),
        (
            {"mobileclf": metadata.PackageNotFoundError("mobileclf")},
            "worker two has mobileclf not at all, here it is .*; `pip install mobileclf==",
        ),
        ({"pillow": "9.0.0"}, "worker two has pillow 9.0.0, here it is"),
        (
            {"photos": "nothing to read (No such file or directory)"},
            "worker two sees nothing to read .* a folder of 2 names .*; share the files",
        ),
        ({"photos": OSError("gone")}, "lost while it worked \\(OSError: gone\\)"),
    ],
)
def test_a_worker_that_differs_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    for name in ("photos/a", "photos/b"):
        (tmp_path / name).mkdir(parents=True)
    address = address_of("host:1")
    parallel._check_workers(address, answering(), [tmp_path / "photos"])
    with pytest.raises(EnvironmentProblem, match=message):
        parallel._check_workers(address, answering(**changes), [tmp_path / "photos"])


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    one = parallel._look(str(tmp_path))
    assert parallel._look(str(tmp_path / "a")) == "a file of 5 bytes"
    assert parallel._look(str(tmp_path / "b")) == "nothing to read (No such file or directory)"
    (tmp_path / "a").rename(tmp_path / "b")
    assert parallel._look(str(tmp_path)) != one


def test_the_workers_of_a_cluster_are_asked(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(each(square, [1], "x", cluster=cluster, shared=tmp_path))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "_look", look_from_here_alone)
        with pytest.raises(EnvironmentProblem, match="sees nothing at .*, here it is a file"):
            list(each(square, [1], "x", cluster=cluster, shared=tmp_path))
    monkeypatch.setattr(parallel, "version_of", lambda _: "99")
    with pytest.raises(EnvironmentProblem, match="worker tcp://.* here it is 99"):
        list(each(square, [1], "x", cluster=cluster))


def test_a_cluster_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with dask_cluster() as address:
        with pytest.raises(EnvironmentProblem, match="lost while it worked"):
            monkeypatch.setattr(parallel, "WORK", 10)
            list(each(end_the_process, [1, 2], "x", cluster=address))
    with dask_cluster() as address:
        start = time.monotonic()
        with pytest.raises(EnvironmentProblem, match=r"lost while .*no answer in 1 s"):
            monkeypatch.setattr(parallel, "WORK", 1)
            list(each(sleep_long, [1, 2], "x", cluster=address))
        assert time.monotonic() - start < 15
