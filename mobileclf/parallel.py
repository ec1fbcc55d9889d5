"""The same work on many items: on all cores of this machine, or on a Dask or Ray cluster.

Threads here are Python's own, all else goes through joblib. Workers elsewhere read the same paths
(a shared file system) and have the same versions of what bears on results; both are checked
before any work is sent.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from . import progress
from .errors import EnvironmentProblem, UsageError
from .run import version_of

T = TypeVar("T")
R = TypeVar("R")

# Seconds: until a machine answers at all, until a Ray cluster has let this process in (it starts
# one of its own for each), and until a worker has done its batch of items.
CONNECT, ENTER, WORK = 10, 60, 600
# What bears on results, besides the code of mobileclf.
PACKAGES = ("mobileclf", "numpy", "pillow", "imagehash", "scipy", "pillow-heif",
            "ai-edge-litert", "tflite-runtime")  # fmt: skip
# Tasks that a worker gets in a block. Only a block's results are ever in memory: joblib hands
# out tasks as fast as they are done, however slowly the results are taken.
TASKS = 8
AHEAD = 4  # tasks that each thread has ahead
BATCH, SMALL_BATCH = 8, 64
BLOCK = 1024
# From here on, the second that it takes to start processes is won back.
MANY = 5000


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a cluster is. text: as it was given. where: host:port, or `auto` for the Ray that
    runs on this machine."""

    kind: Literal["dask", "ray"]
    where: str
    text: str


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """joblib's Parallel, ready for many calls, or what stands in for it, and how many workers it
    has.

    lost: what to raise for an error that is none of the work's own. bounded: it takes tasks only
    as fast as their results are taken.
    """

    parallel: Any
    workers: int
    lost: Callable[[Exception], Exception]
    bounded: bool = False


class _Elsewhere(Exception):
    """The traceback of an error that was raised in another process, as text."""


def address_of(text: str) -> Address:
    """`tcp://host:port`, `host:port` or `dask://host:port` for Dask; `ray://host:port` or
    `ray:auto` for Ray. Raises UsageError."""
    if text == "ray:auto":
        return Address(kind="ray", where="auto", text=text)
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        sound = bool(parts.hostname and parts.port and "@" not in parts.netloc)
    except ValueError:
        sound = False
    if not sound or parts.scheme not in ("tcp", "dask", "ray") or any(parts[2:]):
        raise UsageError(
            f"--cluster {text!r}: wanted host:port, tcp://host:port or dask://host:port (Dask), "
            "ray://host:port or ray:auto (Ray)"
        )
    kind: Literal["dask", "ray"] = "ray" if parts.scheme == "ray" else "dask"
    return Address(kind=kind, where=parts.netloc, text=text)


def each(
    work: Callable[[T], R],
    items: Sequence[T],
    title: str,
    *,
    cluster: str | None = None,
    small: bool = False,
    batch: int | None = None,
    shared: Path | Sequence[Path] = (),
) -> Iterator[R]:
    """`work(item)` of each item, in order, with a progress bar; few results are in memory at once.

    cluster: an address as in `address_of`; None: this machine. There, `work` and the items must
    be picklable and name files by absolute paths. small: results hold no pixels, and the work is
    as much Python as decoding; then MANY items are worth processes in place of threads, and
    `work` must be picklable here too. batch: items that a worker gets at once [by their number].
    shared: folders and files that every worker must see as
    they are here.

    Raises what `work` raises, once the items before it are yielded; UsageError for an address
    that is none; EnvironmentProblem when the cluster cannot be reached, lacks something or is lost.
    """
    address = address_of(cluster) if cluster is not None else None
    if not items:
        return
    paths = [shared] if isinstance(shared, Path) else shared
    if address is None:
        entered = _here(processes=small and len(items) >= MANY)
    elif address.kind == "dask":
        entered = _dask(address, work, paths)
    else:
        entered = _ray(address, paths)
    with entered as pool, closing(_results(pool, work, items, small, batch)) as results:
        yield from progress.track(results, title, len(items))


def _results(
    pool: _Pool, work: Callable[[T], R], items: Sequence[T], small: bool, batch: int | None
) -> Generator[R, None, None]:
    import joblib

    share = TASKS * pool.workers
    most = SMALL_BATCH if small else min(BATCH, BLOCK // share)
    batch = batch or max(1, min(most, len(items) // share))
    task = joblib.delayed(_run)
    length = len(items) if pool.bounded else share * batch
    for start in range(0, len(items), length):
        block = items[start : start + length]
        tasks = (task(work, block[i : i + batch]) for i in range(0, len(block), batch))
        failed: Exception | None = None
        for done, error, trace in _outcomes(pool, tasks):
            # What was sent out after a failure is waited for: tasks that are dropped while they
            # run make joblib and Dask complain on the screen.
            if failed is None:
                yield from done
                failed = error
                if error is not None and error.__traceback__ is None:  # it was pickled
                    error.__cause__ = _Elsewhere(trace)
            if failed is not None and pool.bounded:
                break
        if failed is not None:
            raise failed


def _run(work: Callable[[T], R], items: Sequence[T]) -> tuple[list[R], Exception | None, str]:
    """A batch on a worker: results up to the first error, that error, and its traceback.

    As a value, so that whatever else joblib raises is the cluster's own trouble.
    """
    done: list[R] = []
    for item in items:
        try:
            done.append(work(item))
        except Exception as error:
            return done, error, traceback.format_exc()
    return done, None, ""


def _outcomes(pool: _Pool, tasks: Iterator[Any]) -> Iterator[Any]:
    """What `_run` gives for each task, in order; every other error is said to be the pool's."""
    outcomes: Any = None
    try:
        outcomes = pool.parallel(tasks)
        for outcome in outcomes:  # noqa: UP028, since `yield from` closes it before `finally` runs
            yield outcome
    except Exception as error:
        raise pool.lost(error) from error
    finally:
        if hasattr(outcomes, "close"):
            with warnings.catch_warnings():
                # That some tasks were in vain, when the caller wants no more.
                warnings.simplefilter("ignore", UserWarning)
                outcomes.close()


@contextmanager
def _here(*, processes: bool) -> Iterator[_Pool]:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    def lost(error: Exception) -> Exception:
        if isinstance(error, TerminatedWorkerError):
            return EnvironmentProblem(
                "a worker process was ended from outside, mostly for want of memory; "
                "close other programs and run the same command again"
            )
        return error

    # Decoding leaves Python's lock alone and pixels need not be copied: threads. Measured on two
    # cores: 600 photos of cats and dogs decoded and resized 0.61 s (processes 0.68), hashed too
    # 0.62 s (0.56), but 3,000 pictures of 80 pixels hashed 1.0 s (0.41).
    workers = joblib.effective_n_jobs(-1)
    if not processes:
        with _threads(workers) as run:
            yield _Pool(parallel=run, workers=workers, lost=lost, bounded=True)
        return
    with joblib.Parallel(
        n_jobs=workers, backend="loky", return_as="generator", batch_size=1
    ) as parallel:
        yield _Pool(parallel=parallel, workers=workers, lost=lost)


@contextmanager
def _threads(workers: int) -> Iterator[Callable[[Iterator[Any]], Iterator[Any]]]:
    """What joblib's threads do, but with no pause between blocks: they have always a few tasks
    ahead of the results that were taken, and no more."""
    pool = ThreadPoolExecutor(workers)

    def run(tasks: Iterator[Any]) -> Iterator[Any]:
        coming: deque[Future[Any]] = deque()
        for work, given, named in tasks:
            coming.append(pool.submit(work, *given, **named))
            if len(coming) > AHEAD * workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(address: Address, work: object, shared: Sequence[Path]) -> Iterator[_Pool]:
    import asyncio

    import joblib

    try:
        from dask.distributed import Client
    except ImportError as error:
        raise _not_installed(address, "Dask", "cluster") from error
    _reach(address)
    url = f"tcp://{address.where}"
    # Its own timeout does not hold for a port that takes the connection and then says nothing.
    client = _within(CONNECT, address, lambda: Client(url, timeout=CONNECT, set_as_default=False))
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT)
        except (TimeoutError, asyncio.TimeoutError) as error:  # noqa: UP041, two before Python 3.11
            what = f"has no worker, waited {CONNECT} s; start some with `dask worker {url}`"
            raise _problem(address, what) from error
        cores = client.ncores()
        workers = list(cores)

        def run(function: Callable[..., Any], *given: object) -> Mapping[str, Any]:
            return client.run(function, *given, workers=workers, on_error="return")  # type: ignore[no-any-return, unused-ignore]

        _check_workers(address, run, shared)
        # The work, which may hold a model, goes to each worker once; tasks go to those alone
        # that were checked.
        with joblib.parallel_config(
            backend="dask", client=client, scatter=[work], workers=workers, n_jobs=-1
        ):
            parallel = joblib.Parallel(return_as="generator", batch_size=1, timeout=WORK)
        with parallel:
            yield _Pool(parallel=parallel, workers=sum(cores.values()), lost=_lost(address))


@contextmanager
def _ray(address: Address, shared: Sequence[Path]) -> Iterator[_Pool]:
    import joblib

    try:
        import ray
        from ray.util.joblib import register_ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise _not_installed(address, "Ray", "ray") from error
    if address.where == "auto":
        url = "auto"
    else:
        _reach(address)
        url = f"ray://{address.where}"
    _within(ENTER, address, lambda: ray.init(url, log_to_driver=False, logging_level="error"))

    def run(function: Callable[..., Any], *given: object) -> Mapping[str, Any]:
        remote = ray.remote(num_cpus=0, max_retries=0)(function)
        asked = {}
        for node in ray.nodes():
            if node["Alive"]:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
                asked[name] = remote.options(scheduling_strategy=there).remote(*given)
        answers: dict[str, Any] = {}
        for name, answer in asked.items():
            try:
                answers[name] = ray.get(answer, timeout=ENTER)
            except ray.exceptions.RayError as error:
                answers[name] = error
        return answers

    try:
        _check_workers(address, run, shared)
        register_ray()
        workers = int(ray.cluster_resources()["CPU"])
        # joblib's backend for Ray has no generator.
        with joblib.Parallel(n_jobs=workers, backend="ray", batch_size=1, timeout=WORK) as parallel:
            yield _Pool(parallel=parallel, workers=workers, lost=_lost(address))
    finally:
        ray.shutdown()


def _check_workers(
    address: Address,
    run: Callable[..., Mapping[str, Any]],
    shared: Sequence[Path],
) -> None:
    """Every worker has the same versions of PACKAGES as this process and sees `shared`.

    run: calls a function on every worker; its value, or the error it raised, by worker. Raises
    EnvironmentProblem.
    """
    for package in PACKAGES:
        # A function of Python's own: that of a package that is absent could not be called.
        for worker, found in run(metadata.version, package).items():
            version = None if isinstance(found, metadata.PackageNotFoundError) else found
            own = version_of(package)
            if isinstance(version, Exception):
                raise _lost(address)(version)
            if version != own:
                what = f"worker {worker} has {package} {version or 'not at all'}"
                todo = f"`pip install {package}=={own}` there" if own else "remove it there"
                raise _problem(address, f"{what}, here it is {own or 'not installed'}; {todo}")
    for path in shared:
        where = str(path.absolute())
        here = _look(where)
        for worker, found in run(_look, where).items():
            if isinstance(found, Exception):
                raise _lost(address)(found)
            if found != here:
                what = f"worker {worker} sees {found} at {where}, here it is {here}"
                raise _problem(
                    address, f"{what}; share the files under the same path on all machines"
                )


def _look(path: str) -> str:
    """What lies at a path, in words that are the same wherever the same lies."""
    try:
        if not os.path.isdir(path):
            return f"a file of {os.path.getsize(path)} bytes"
        names = sorted(os.listdir(path))
    except OSError as error:
        return f"nothing to read ({error.strerror})"
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return f"a folder of {len(names)} names ({digest[:8]})"


def _reach(address: Address) -> None:
    """Raises EnvironmentProblem when nobody listens there."""
    host, _, port = address.where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
    except OSError as error:
        what = f"cannot be reached ({error.strerror or error})"
        raise _problem(address, f"{what}; is the scheduler up, and the port open?") from error


def _within(seconds: float, address: Address, connect: Callable[[], T]) -> T:
    """The value of `connect`. Raises EnvironmentProblem when it fails or takes longer."""
    made: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            made.append(connect())
        except Exception as error:
            failed.append(error)

    # A daemon, so that one that never comes back does not hold up the end of the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if made:
        return made[0]
    why = str(failed[0]) if failed else f"no answer in {seconds} s"
    what = f"does not answer as a {address.kind.capitalize()} cluster does ({why})"
    raise _problem(address, f"{what}; check the address and its version") from (
        failed[0] if failed else None
    )


def _problem(address: Address, what: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"--cluster {address.text}: {what}")


def _not_installed(address: Address, name: str, extra: str) -> EnvironmentProblem:
    return _problem(address, f"{name} is not installed; `pip install 'mobileclf[{extra}]'`")


def _lost(address: Address) -> Callable[[Exception], Exception]:
    def lost(error: Exception) -> Exception:
        why = f"{type(error).__name__}: {str(error) or f'no answer in {WORK} s'}"
        return _problem(address, f"lost while it worked ({why}); see the logs of its workers")

    return lost
