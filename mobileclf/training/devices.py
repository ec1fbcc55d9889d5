"""What training runs on: its devices and their precision, and the processes that share a training.

On JAX every batch is spread over all devices of all processes by `keras.distribution`: each has
all the weights and takes its share of the batch, and a step is the same as on one device. On
TensorFlow it is one process and its first device.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from mobileclf import progress
from mobileclf.errors import EnvironmentProblem, MobileclfError, UsageError
from mobileclf.records import Record, sha256_bytes
from mobileclf.settings import Settings

from .batches import Share

AMPERE = (8, 0)  # compute capability from which on a GPU multiplies bfloat16 as fast as float16
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Flag and, where that is not given, variable of each: those that Keras itself reads.
GROUP = {
    "coordinator": ("--coordinator", "KERAS_DISTRIBUTION_JOB_ADDRESSES"),
    "processes": ("--processes", "KERAS_DISTRIBUTION_NUM_PROCESSES"),
    "process_index": ("--process-index", "KERAS_DISTRIBUTION_PROCESS_ID"),
}
GATHER = 300  # seconds that the first process waits for the others, once it trains
ASK = 1.0  # seconds between two tries to reach the first process


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes that train together. coordinator: host:port at which the first one answers."""

    coordinator: str
    count: int
    index: int


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one training runs on.

    platform: cpu, gpu or tpu. name: `cpu`, or what the accelerator is called. count: devices,
    of all processes together. share: of each batch, for this process. precision: of activations
    and arithmetic; weights are float32 always.
    """

    backend: str
    platform: str
    name: str
    count: int
    share: Share
    precision: str

    def as_record(self) -> Record:
        """As JSON values, for `train.json`."""
        return {
            "backend": self.backend,
            "platform": self.platform,
            "device": self.name,
            "devices": self.count,
            "processes": self.share.count,
            "precision": self.precision,
        }

    def set_up(self, keras: ModuleType, *, spread: bool) -> None:
        """Have what is built from here on in this precision, and on every device or (spread:
        False) on this process's first one."""
        keras.config.set_dtype_policy(POLICIES[self.precision])
        if self.backend == "jax":
            distributed = spread and self.count > 1
            # Each process is given its own share of the batches, so there is nothing to shard.
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(auto_shard_dataset=False) if distributed else None
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For work of this process by itself, on a network that was built with spread: False.

        Keras asks where a batch belongs when it is computed, and not when the network is built.
        """
        if self.backend != "jax":
            yield
            return
        import keras

        before = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.share.count > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("mobileclf")

    def agree(self, text: str, what: str) -> None:
        """Raises UsageError, in every process, where they do not all give the same text.

        what: it stands for, in words.
        """
        if self.share.count == 1:
            return
        from jax.experimental import multihost_utils

        own = np.frombuffer(bytes.fromhex(sha256_bytes(text.encode())), np.uint8)
        found = np.asarray(multihost_utils.process_allgather(own)).reshape(self.share.count, -1)
        others = [i for i, digest in enumerate(found) if not np.array_equal(digest, found[0])]
        if others:
            raise UsageError(
                f"--processes {self.share.count}: wanted the same {what} in every process, found "
                f"others in process {', '.join(map(str, others))} than in process 0; start them "
                "all with the same options, versions and run folder"
            )


def group_of(
    coordinator: str | None,
    processes: int | None,
    process_index: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Group | None:
    """The processes that train together, by flags or else variables; None for a single one.

    Raises UsageError where only some of that is given, or where it does not fit together.
    """
    given = {"coordinator": coordinator, "processes": processes, "process_index": process_index}
    found = {
        name: value if value is not None else environment.get(variable) or None
        for (name, value), (_, variable) in zip(given.items(), GROUP.values(), strict=True)
    }
    missing = [name for name, value in found.items() if value is None]
    if len(missing) == len(found):
        return None
    count = _whole("processes", found["processes"])
    if count == 1:
        return None
    if missing:
        flag, variable = GROUP[missing[0]]
        there = next(name for name in found if found[name] is not None)
        raise UsageError(
            f"{flag}: wanted with {' or '.join(GROUP[there])}, found none; give it, or {variable}"
        )
    index = _whole("process_index", found["process_index"])
    assert count is not None and index is not None
    addresses = str(found["coordinator"]).split(",")
    host, _, port = addresses[0].rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UsageError(
            f"--coordinator {addresses[0]!r}: wanted host:port of the first process, as "
            "10.0.0.1:1234"
        )
    if len(addresses) not in (1, count):
        raise UsageError(
            f"{GROUP['coordinator'][1]}: wanted one address, or one for each of the {count} "
            f"processes, found {len(addresses)}"
        )
    if not 0 <= index < count:
        raise UsageError(
            f"--process-index {index}: wanted one from 0 to {count - 1}, as there are {count} "
            "processes"
        )
    return Group(coordinator=addresses[0], count=count, index=index)


def _whole(name: str, value: object) -> int | None:
    try:
        return None if value is None else int(str(value))
    except ValueError as error:
        flag, variable = GROUP[name]
        raise UsageError(f"{flag} or {variable}: wanted a whole number, found {value!r}") from error


def await_first(group: Group, seconds: float) -> Iterator[None]:
    """Until the first process answers; yields before each pause. Raises EnvironmentProblem."""
    host, _, port = group.coordinator.rpartition(":")
    ends = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() >= ends:
                raise EnvironmentProblem(
                    f"--coordinator {group.coordinator}: wanted an answer of process 0 within "
                    f"{seconds:g} seconds, found none ({error.strerror or error}); see that it "
                    "runs, and that this address and port reach it"
                ) from error
        yield
        time.sleep(ASK)


def start(settings: Settings) -> Device:
    """Meet the other processes, if there are any, and say what training runs on.

    To be called before anything is computed. Raises UsageError as `group_of` and `precision_of`,
    and for several processes on TensorFlow. Where other processes do not come within GATHER
    seconds or are lost later, JAX ends this one by SIGABRT.
    """
    backend = settings.backend
    group = group_of(settings.coordinator, settings.processes, settings.process_index)
    if backend == "tensorflow":
        if group is not None:
            raise UsageError(
                f"--processes {group.count}: TensorFlow trains in a single process; give --backend "
                "jax"
            )
        platform, name, capability = _first_of_tensorflow()
        count, share = 1, Share()
    else:
        if group is not None:
            _join(group)
        platform, name, capability, count = _all_of_jax()
        share = Share() if group is None else Share(index=group.index, count=group.count)
    return Device(
        backend=backend,
        platform=platform,
        name=name,
        count=count,
        share=share,
        precision=precision_of(settings.precision, platform=platform, capability=capability),
    )


def precision_of(asked: str, *, platform: str, capability: tuple[int, int] | None) -> str:
    """float32, bfloat16 or float16: as asked, and for `auto` what the device is fast in.

    capability: of the least of the GPUs; None where it has none such, as AMD's do not. Raises
    UsageError for float16 where that is no faster, as its small range wants loss scaling.
    """
    modern = platform == "tpu" or (platform == "gpu" and (capability or AMPERE) >= AMPERE)
    if asked == "auto":
        if platform == "cpu":
            return "float32"
        return "bfloat16" if modern else "float16"
    if asked == "float16" and platform != "gpu":
        raise UsageError(
            f"--precision float16: wanted a GPU, found a {platform.upper()}; give "
            f"{'bfloat16' if modern else 'float32'} or auto"
        )
    if asked == "bfloat16" and not modern:
        found = "a CPU" if platform == "cpu" else f"a GPU of capability {_dotted(capability)}"
        progress.warn(
            f"--precision bfloat16: {found} computes it slowly; auto would be "
            f"{'float32' if platform == 'cpu' else 'float16'}"
        )
    return asked


def _dotted(capability: tuple[int, int] | None) -> str:
    return ".".join(map(str, capability or ()))


def _first_of_tensorflow() -> tuple[str, str, tuple[int, int] | None]:
    """Platform, name and compute capability of the first device, which alone is used from here."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu", "cpu", None
    # TensorFlow would take nearly all the memory of every GPU that it sees. Where it has begun to
    # compute, as in a notebook, it has done so, and nothing can be changed.
    with suppress(RuntimeError):
        tf.config.set_visible_devices(gpus[0], "GPU")
    details = tf.config.experimental.get_device_details(gpus[0])
    return "gpu", str(details.get("device_name", "gpu")), details.get("compute_capability")


def _all_of_jax() -> tuple[str, str, tuple[int, int] | None, int]:
    import jax

    return seen_by_jax(jax.devices())


def seen_by_jax(devices: list[Any]) -> tuple[str, str, tuple[int, int] | None, int]:
    """Platform, name, least compute capability and number of JAX's devices."""
    first = devices[0]
    if first.platform == "cpu":
        return "cpu", "cpu", None, len(devices)
    platform = "tpu" if first.platform == "tpu" else "gpu"
    # NVIDIA's are texts such as "8.0", AMD's such as "gfx90a".
    texts = [str(getattr(device, "compute_capability", "")).split(".") for device in devices]
    known = [(int(t[0]), int(t[1])) for t in texts if len(t) == 2 and all(map(str.isdigit, t))]
    return platform, str(first.device_kind), min(known, default=None), len(devices)


@contextmanager
def memory_said() -> Iterator[None]:
    """For training: where memory runs out, of the machine or of an accelerator, raises
    EnvironmentProblem in place of what Python, TensorFlow or JAX do. What those say is printed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MobileclfError) or not _is_of_memory(error):
            raise
        traceback.print_exc()
        raise EnvironmentProblem(
            "train: memory ran out; give a smaller --batch-size or --image-size"
        ) from error


def _is_of_memory(error: Exception) -> bool:
    """JAX has no class for it, only the status at the beginning of its text, before which Keras
    puts words of its own; of TensorFlow, which may not be imported here, the class has a name."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def _join(group: Group) -> None:
    """By JAX itself: Keras' own `initialize` knows no time limit."""
    import jax

    if group.index == 0:
        progress.say(
            f"waiting for {group.count - 1} more of {group.count} processes at {group.coordinator}"
        )
    jax.distributed.initialize(
        group.coordinator, group.count, group.index, initialization_timeout=GATHER
    )
