"""How fast InceptionV3 is fine-tuned on a GPU: our training code on JAX against timm's network.

    python benchmarks/fine_tuning_gpu.py [--batch 64] [--steps 100] [--rounds 3] [--out FILE]

Needs a GPU, JAX, Keras, PyTorch and timm; no TensorFlow, no download and no data set: weights are
random and photos are random bytes of 299 x 299 in memory. Both train every layer with Adam in
bfloat16 with float32 weights, from batches of the same bytes that are gathered on the processor
in another order each epoch and sent to the card:

- ours: Keras on JAX, by what `mobileclf train --unfreeze all --backend jax` fits with
  (`training.phases`, `training.batches`, `training.fit`);
- timm: `inception_v3` in PyTorch, channels last, autocast to bfloat16, `torch.compile`, TF32
  allowed, batches gathered by as many threads and sent as bytes from pinned memory.

`--batch-norm frozen` (as `mobileclf train` has it by itself) keeps the statistics of batch norm on
both sides; `adapt` learns them on both. Each side runs in a process of its own, in turn, and
is timed over `--steps` steps after as many to warm up. timm fed with one batch that is on the
card already is timed beside: what it would reach if feeding cost nothing. Exits with 1 where the
middle ratio of ours to timm's misses the goal, and with 5 where something that is needed is not
there. `--anywhere` tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import cores
from mobileclf.records import Record, write_json

GOAL = 1.3
LABELS = 4
RATE = 1e-5
DIFFERENT = 8  # batches of different photos in memory
NEEDED = ("jax", "keras", "timm", "torch")
SIDES = ("ours", "timm")


def photos(batch: int, size: int) -> NDArray[np.uint8]:
    """Random bytes, uint8 (n, size, size, 3)."""
    shape = (DIFFERENT * batch, size, size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def truth(examples: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, LABELS, examples)


def ours(given: argparse.Namespace) -> Record:
    """Images a second of our training code."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    from mobileclf.models import backbones, head
    from mobileclf.models.backbones import FEATURES, Architecture
    from mobileclf.spelling import head_of
    from mobileclf.training import phases
    from mobileclf.training.batches import batches
    from mobileclf.training.fit import compiled
    from mobileclf.training.phases import Network

    architecture = Architecture(
        backbone="inception_v3", image_size=given.size, channels=3, units=(64,), labels=LABELS,
        seed=0,
    )  # fmt: skip
    policy = "mixed_bfloat16"
    model = backbones.build(
        keras, architecture, cleared=lambda: keras.config.set_dtype_policy(policy)
    )
    body = keras.Model(model.input, model.get_layer(FEATURES).output)
    classifier = head.classifier(
        body.output_shape[1:], head=head_of("64"), labels=LABELS, dropout=0.0, seed=0
    )
    network = Network(backbone="inception_v3", body=body, classifier=classifier)
    joined = phases._joined(network, adapt=given.batch_norm == "adapt")
    compiled(joined, optimizer=keras.optimizers.Adam(RATE), sigmoid=False)
    pixels = photos(given.batch, given.size)
    examples = given.batch * given.steps
    data = batches(
        lambda rows, round: pixels[rows % len(pixels)].astype(np.float32),
        truth(examples), None,
        size=given.batch, seed=0, workers=max(2, cores.usable()),
    )  # fmt: skip

    def epoch(number: int) -> None:
        data.start(number)
        joined.fit(data, epochs=1, verbose=0, shuffle=False)

    epoch(0)
    return {
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "keras": keras.__version__},
        "fed": examples / seconds_of(lambda: epoch(1)),
    }


def timm(given: argparse.Namespace) -> Record:
    """Images a second of timm's network in PyTorch."""
    import timm as timm_models
    import torch

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm_models.create_model("inception_v3", pretrained=False, num_classes=LABELS)
    model = model.to(device, memory_format=torch.channels_last).train()
    if given.batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=device.type == "cuda")
    loss_of = torch.nn.CrossEntropyLoss()

    def forward(pixels: Any, labels: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            # From uint8 (n, height, width, 3), which is channels last as it is.
            scaled = pixels.permute(0, 3, 1, 2).to(torch.bfloat16) / 127.5 - 1
            return loss_of(model(scaled), labels)

    loss = torch.compile(forward)

    def step(pixels: Any, labels: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(pixels, labels).backward()
        optimizer.step()

    bytes_of = photos(given.batch, given.size)
    examples = given.batch * given.steps
    labels = truth(examples)

    def gathered(rows: NDArray[np.int64]) -> tuple[Any, Any]:
        pixels = torch.from_numpy(bytes_of[rows % len(bytes_of)])
        return tuple(
            each.pin_memory() if device.type == "cuda" else each
            for each in (pixels, torch.from_numpy(labels[rows]))
        )

    def fed() -> None:
        order = np.random.default_rng(2).permutation(examples).reshape(given.steps, given.batch)
        for batch in ahead(gathered, list(order)):
            step(*(each.to(device, non_blocking=True) for each in batch))
        wait()

    def resident() -> None:
        for _ in range(given.steps):
            step(*held)
        wait()

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    held = tuple(each.to(device) for each in gathered(np.arange(given.batch)))
    fed()
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "timm": timm_models.__version__},
        "fed": examples / seconds_of(fed),
        "on the card": examples / seconds_of(resident),
    }


def ahead(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """`work` of each item in order, done ahead in threads, no more than two a thread at once."""
    threads = max(2, cores.usable())
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(work, item) for item in items[: 2 * threads]]
        for item in items[2 * threads :]:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(work, item))
        for one in waiting:
            yield one.result()


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def wanting(anywhere: bool) -> str | None:
    """What is needed and not there, in words."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return f"wanted {', '.join(NEEDED)}, found no {', '.join(absent)}; install them"
    if anywhere:
        return None
    found = shutil.which("nvidia-smi")
    listed = subprocess.run([found, "-L"], capture_output=True, text=True) if found else None
    if listed is None or listed.returncode or "GPU" not in listed.stdout:
        return "wanted an NVIDIA GPU, found none; run it on a machine that has one"
    return None


def measured(side: str, arguments: Sequence[str]) -> Record:
    """What a side says of itself, from a process of its own. Ends this one where it fails."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--side", side], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{side}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    found: Record = json.loads(done.stdout.splitlines()[-1])
    return found


def spread(values: Sequence[float], places: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{places}f} ({low:.{places}f} to {high:.{places}f})"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100, help="timed, and as many before")
    parser.add_argument("--size", type=int, default=299, help="side of the input, pixels")
    parser.add_argument("--batch-norm", choices=("frozen", "adapt"), default="frozen")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--anywhere", action="store_true", help="also without a GPU, as a trial")
    parser.add_argument("--out", type=Path, help="JSON of the run")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(ours(given) if given.side == "ours" else timm(given)))
        return 0
    if (problem := wanting(given.anywhere)) is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 5
    rounds = []
    for number in range(given.rounds):
        rounds.append({side: measured(side, sys.argv[1:]) for side in SIDES})
        print(f"round {number + 1} of {given.rounds} is done", file=sys.stderr, flush=True)
    about = {side: rounds[0][side] for side in SIDES}
    versions = about["ours"]["versions"] | about["timm"]["versions"]
    print(f"{about['timm']['device']}; ours on {about['ours']['device']}")
    print(", ".join(f"{name} {version}" for name, version in sorted(versions.items())))
    print(f"batch {given.batch}, {given.size} px, batch norm: {given.batch_norm}, images/s")
    ways = {
        "ours": ("ours", "fed"),
        "timm": ("timm", "fed"),
        "timm, fed by nothing": ("timm", "on the card"),
    }
    for name, (side, way) in ways.items():
        print(f"{name:22} {spread([one[side][way] for one in rounds], 0)}")
    ratios = {
        name: [one["ours"]["fed"] / one["timm"][way] for one in rounds]
        for name, way in (("ours / timm", "fed"), ("ours / timm fed by nothing", "on the card"))
    }
    holds = statistics.median(ratios["ours / timm"]) >= GOAL
    print()
    for name, values in ratios.items():
        print(f"{name}: {spread(values, 3)}")
    if given.anywhere:
        print("a trial: no goal")
        return 0
    print(f"{'holds' if holds else 'MISSED'}: at least {GOAL:g} times as fast as timm")
    if given.out:
        write_json(given.out, {"rounds": rounds, "ratios": ratios, "holds": holds})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
