"""What training runs on: precision by device, the processes of a group, what the record says."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import pytest

from mobileclf.config import make_settings
from mobileclf.errors import DataError, EnvironmentProblem, UsageError
from mobileclf.training import devices
from mobileclf.training.batches import Share
from mobileclf.training.devices import (
    Device,
    Group,
    await_first,
    group_of,
    memory_said,
    precision_of,
    seen_by_jax,
    start,
)

ADDRESS = "10.0.0.1:1234"


@pytest.mark.parametrize(
    ("platform", "capability", "wanted"),
    [
        ("cpu", None, "float32"),
        ("gpu", (6, 1), "float16"),
        ("gpu", (7, 5), "float16"),
        ("gpu", (8, 0), "bfloat16"),
        ("gpu", (8, 9), "bfloat16"),
        ("gpu", (10, 0), "bfloat16"),
        ("gpu", None, "bfloat16"),
        ("tpu", None, "bfloat16"),
    ],
)
def test_auto_is_what_the_device_is_fast_in(platform, capability, wanted, capsys):
    assert precision_of("auto", platform=platform, capability=capability) == wanted
    assert precision_of("float32", platform=platform, capability=capability) == "float32"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("platform", "capability", "said"),
    [
        ("cpu", None, "a CPU computes it slowly; auto would be float32"),
        ("gpu", (7, 0), "a GPU of capability 7.0 computes it slowly; auto would be float16"),
        ("gpu", (9, 0), ""),
        ("tpu", None, ""),
    ],
)
def test_bfloat16_is_as_asked_with_a_word_where_it_is_slow(platform, capability, said, capsys):
    assert precision_of("bfloat16", platform=platform, capability=capability) == "bfloat16"
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_float16_wants_a_gpu():
    assert precision_of("float16", platform="gpu", capability=(9, 0)) == "float16"
    for platform, instead in [("cpu", "float32"), ("tpu", "bfloat16")]:
        with pytest.raises(UsageError, match=f"wanted a GPU, found a .*; give {instead} or auto"):
            precision_of("float16", platform=platform, capability=None)


def gpu(capability: str | None) -> SimpleNamespace:
    found = SimpleNamespace(platform="gpu", device_kind="A card")
    if capability is not None:
        found.compute_capability = capability
    return found


def test_what_jax_sees():
    cpu = SimpleNamespace(platform="cpu", device_kind="cpu")
    assert seen_by_jax([cpu, cpu]) == ("cpu", "cpu", None, 2)
    assert seen_by_jax([gpu("9.0"), gpu("7.5")]) == ("gpu", "A card", (7, 5), 2)
    assert seen_by_jax([gpu("10.0")]) == ("gpu", "A card", (10, 0), 1)
    assert seen_by_jax([gpu("gfx90a")])[2] is None and seen_by_jax([gpu(None)])[2] is None
    tpu = SimpleNamespace(platform="tpu", device_kind="TPU v5e")
    assert seen_by_jax([tpu] * 4) == ("tpu", "TPU v5e", None, 4)


def variables(**given: str) -> dict[str, str]:
    return {devices.GROUP[name][1]: value for name, value in given.items()}


def test_a_group_is_told_by_flags_or_variables():
    assert group_of(None, None, None, {}) is None
    wanted = Group(coordinator=ADDRESS, count=2, index=1)
    assert group_of(ADDRESS, 2, 1, {}) == wanted
    told = variables(coordinator=ADDRESS, processes="2", process_index="1")
    assert group_of(None, None, None, told) == wanted
    assert group_of(None, None, 0, told) == Group(coordinator=ADDRESS, count=2, index=0)
    several = {**told, **variables(coordinator=f"{ADDRESS},10.0.0.2:99")}
    assert group_of(None, None, None, several) == wanted
    assert group_of("[::1]:1234", 2, 1, {}) == Group(coordinator="[::1]:1234", count=2, index=1)
    # As a launcher gives it to a job of one process.
    assert group_of(None, 1, 0, {}) is None
    assert group_of(None, None, None, variables(coordinator="", processes="")) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((ADDRESS, None, None), "--processes: wanted with --coordinator or KERAS_DISTRIBUTION_JOB"),
        ((None, 2, None), "--coordinator: wanted with --processes"),
        ((None, None, 0), "--coordinator: wanted with --process-index"),
        ((ADDRESS, 2, None), "or KERAS_DISTRIBUTION_PROCESS_ID"),
        (("10.0.0.1", 2, 0), "wanted host:port of the first process"),
        (("host:0", 2, 0), "wanted host:port"),
        (("host:65536", 2, 0), "wanted host:port"),
        (("host:²", 2, 0), "wanted host:port"),
        ((":99", 2, 0), "wanted host:port"),
        ((f"{ADDRESS},b:1,c:1", 2, 0), "one for each of the 2 processes, found 3"),
        ((ADDRESS, 2, 2), "--process-index 2: wanted one from 0 to 1, as there are 2"),
    ],
)
def test_half_a_group_is_refused_with_what_is_missing(given, said):
    with pytest.raises(UsageError) as caught:
        group_of(*given, {})
    assert said in str(caught.value)


def test_a_variable_that_is_no_number_is_refused():
    told = variables(coordinator=ADDRESS, processes="two", process_index="0")
    with pytest.raises(UsageError, match="--processes or KERAS_.*: wanted a whole number, found"):
        group_of(None, None, None, told)


def test_the_first_process_is_waited_for(monkeypatch):
    monkeypatch.setattr(devices, "ASK", 0.01)
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        group = Group(coordinator=f"localhost:{port}", count=2, index=1)
        assert list(await_first(group, 5)) == []
    with pytest.raises(EnvironmentProblem) as caught:
        assert len(list(await_first(group, 0.05))) > 0
    assert f"--coordinator localhost:{port}: wanted an answer of process 0" in str(caught.value)


class Distribution:
    """Of Keras, as far as `devices` uses it."""

    def __init__(self) -> None:
        self.now: object = None
        self.set_distribution = lambda value: setattr(self, "now", value)
        self.distribution = lambda: self.now

    def DataParallel(self, *, auto_shard_dataset: bool) -> tuple[str, bool]:
        return ("over all devices", auto_shard_dataset)


def device(**changes: object) -> Device:
    usual = dict(backend="jax", platform="gpu", name="A card", count=4, precision="bfloat16")
    return Device(**{**usual, "share": Share(index=1, count=2), **changes})


@pytest.mark.parametrize(
    ("precision", "policy"),
    [("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")],
)
def test_keras_is_set_up(precision, policy):
    found = []
    keras = SimpleNamespace(
        config=SimpleNamespace(set_dtype_policy=found.append), distribution=Distribution()
    )
    here = device(precision=precision)
    here.set_up(keras, spread=True)
    assert keras.distribution.now == ("over all devices", False) and found == [policy]
    here.set_up(keras, spread=False)
    assert keras.distribution.now is None
    keras.distribution.now = "another"
    device(count=1, share=Share()).set_up(keras, spread=True)
    assert keras.distribution.now is None
    # TensorFlow has its own way to spread, which is not used.
    keras.distribution = None
    device(backend="tensorflow", count=1).set_up(keras, spread=True)


def test_what_the_record_says():
    assert device().as_record() == {
        "backend": "jax", "platform": "gpu", "device": "A card", "devices": 4, "processes": 2,
        "precision": "bfloat16",
    }  # fmt: skip


def test_on_tensorflow_it_is_the_first_gpu_in_one_process(monkeypatch):
    for _, variable in devices.GROUP.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(devices, "_first_of_tensorflow", lambda: ("gpu", "A card", (7, 5)))
    found = start(make_settings({}))
    assert found == device(backend="tensorflow", count=1, share=Share(), precision="float16")
    asked = make_settings({"processes": 2, "process_index": 0, "coordinator": ADDRESS})
    with pytest.raises(UsageError, match="--processes 2: TensorFlow trains in a single process"):
        start(asked)


def fake_tensorflow(monkeypatch, set_visible):
    """In the place of TensorFlow, with two GPUs."""
    config = SimpleNamespace(
        list_physical_devices=lambda kind: ["first", "second"],
        set_visible_devices=set_visible,
        experimental=SimpleNamespace(
            get_device_details={
                "first": {"device_name": "A card", "compute_capability": (7, 5)}
            }.__getitem__
        ),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))


def test_tensorflow_leaves_the_other_gpus_alone(monkeypatch):
    seen = []
    fake_tensorflow(monkeypatch, lambda *given: seen.append(given))
    assert devices._first_of_tensorflow() == ("gpu", "A card", (7, 5))
    assert seen == [("first", "GPU")]

    def begun(*given):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    fake_tensorflow(monkeypatch, begun)
    assert devices._first_of_tensorflow() == ("gpu", "A card", (7, 5))


class ResourceExhaustedError(Exception):
    """As TensorFlow's is named."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ResourceExhaustedError("OOM when allocating tensor with shape[2097152,2097152]"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17592186044416 bytes."),
        # As Keras passes it on from a layer.
        RuntimeError("Exception encountered when calling L.call().\n\nRESOURCE_EXHAUSTED: Out of"),
    ],
)
def test_memory_that_ran_out_is_said_with_what_to_do(error, capsys):
    with pytest.raises(EnvironmentProblem, match="memory ran out; give a smaller --batch-size"):
        with memory_said():
            raise error
    assert type(error).__name__ in capsys.readouterr().err


@pytest.mark.parametrize("error", [DataError("RESOURCE_EXHAUSTED.jpg"), RuntimeError("another")])
def test_other_errors_are_what_they_were(error, capsys):
    with pytest.raises(type(error)) as caught, memory_said():
        raise error
    assert caught.value is error and capsys.readouterr().err == ""
