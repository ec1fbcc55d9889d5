"""What int8 costs a classifier: the stock converter, and what this tool makes, over several splits.

    python benchmarks/quantization.py NETWORK DATA WEIGHTS [--seeds 5] [--keep FOLDER] [--out JSON]

NETWORK is `inception_v3` (224 px) or `mobilenet_v2` (160 px), DATA a folder of class folders,
WEIGHTS the network's Keras h5 without top. The backbone's features are computed once. Each seed
splits the photos anew, copies staying together: 40 % are held out, on which nothing is chosen; of
the others some stop the training of the head early and set its temperature. From that one float
model come

- stock: TensorFlow's post-training int8, of the network with batch norms and input scale folded;
- reconstructed: channels equalized, kernels rounded by GPTQ, biases corrected;
- with --all, rewritten: stock of the network as this tool rewrites it, average pools included,
  and calibrated: this tool's graph with ranges alone;
- with --stock-500, stock with 500 photos; with --distil 20m, what fine-tuning in that time makes
  of the reconstructed one.

Each answers every photo that was held out, by XNNPACK on LiteRT, and is held against the float
model in Keras. FOLDER keeps photos, features, files and answers, each as soon as it is
there, so that a run that was ended goes on; what another version of the tool made is made anew.
Exit 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from answers import (
    MARGIN,
    Answers,
    compared,
    measured,
    pooled,
    show_goals,
    show_table,
    show_test,
)
from numpy.typing import NDArray

import mobileclf
from mobileclf import chatter, progress
from mobileclf.images.load import ImageSpec, load_many
from mobileclf.models import backbones, head
from mobileclf.models.equality import require_equal
from mobileclf.models.graph import Graph, build
from mobileclf.records import (
    Record,
    new_file,
    read_csv,
    read_json,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
)
from mobileclf.settings import DEFAULTS
from mobileclf.source.store import open_store
from mobileclf.spelling import Head, seconds_of
from mobileclf.split import TRAIN, split_photos
from mobileclf.stats.calibration import fit_temperature
from mobileclf.tflite.interpreter import score_photos
from mobileclf.training.batches import batches
from mobileclf.training.fit import compiled, fit
from mobileclf.unions import Unit, joined

SIZES = {"inception_v3": 224, "mobilenet_v2": 160}  # pixels
AGREEMENT = {"inception_v3": 0.995, "mobilenet_v2": 0.99}  # goals
KL_OF_STOCK, COST, COST_BOUND = 0.25, 0.002, 0.01
OPTIONAL = (
    "average-pools",
    "pointwise-first",
)  # rewrites that the stock converter knows nothing of
UNITS, DROPOUT, EPOCHS, PATIENCE, RATE = 64, 0.3, 40, 6, 1e-3  # of the head
CHOSEN_ON_SHARE, FITTED_SHARE = 0.6, 0.85  # of all photos, and of these the share that trains
CALIBRATION, MORE = 128, 500  # photos for the stock converter
OWN_CALIBRATION = int(str(DEFAULTS["calibration_photos"]))  # for this tool's candidates
DISTIL_BATCH = 16
BATCH = 32
SAME, CHECKED = 1e-4, 8  # head on features against the whole network
KEPT = "kept.json"
STOCK, OURS = "stock", "reconstructed"
FLOATS = (
    "float32",
    "float32_rewritten",
)  # files too, which latency and others' int8 are held against


@dataclass(frozen=True, kw_only=True)
class Photos:
    """All photos that can be used: pixels uint8 (n, size, size, 3), label index and features of
    each, and a number for its unit: copies of one picture are one unit."""

    pixels: NDArray[np.uint8]
    truth: NDArray[np.int64]
    features: NDArray[np.float32]
    unit: NDArray[np.int64]

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each label; which does not matter here."""
        return tuple(map(str, range(int(self.truth.max()) + 1)))


# Photos and features


def photos_of(
    network: str, data: Path, weights: Path, folder: Path, most: int | None
) -> tuple[Photos, str]:
    """The photos, and a hash of all that they and their features come from.

    most: no more than so many, evenly over the classes.
    """
    record = mobileclf.dataset(data, run=folder / "run")
    size = SIZES[network]
    table = folder / "run" / "dataset.csv"
    key = sha256_json([sha256_file(table), sha256_file(weights), network, size, most])
    stored = folder / f"photos-{key[:16]}.npz"
    rows = [row for row in read_csv(table) if not row["problem"]]
    if most is not None and most < len(rows):
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]
    if not stored.exists():
        spec = ImageSpec(width=size, height=size)
        pixels = load_many(open_store(data), [row["path"] for row in rows], spec, "load photos")
        labels = [row["label"] for row in record["labels"]]
        truth = np.array([labels.index(row["label"]) for row in rows])
        features = features_of(network, weights, pixels)
        save_arrays(stored, pixels=pixels, features=features, truth=truth, unit=_units(rows))
    write_json(folder / KEPT, {"network": network, "photos": stored.name})
    return read_photos(folder), key


def read_photos(folder: Path) -> Photos:
    """The photos that `photos_of` left in a folder."""
    with np.load(folder / read_json(folder / KEPT)["photos"], allow_pickle=False) as arrays:
        return Photos(**{name: arrays[name] for name in arrays.files})


def features_of(network: str, weights: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the backbone makes of each photo, (n, features)."""
    import keras

    model = keras_model(network, weights, labels=2)
    extractor = keras.Model(model.input, model.get_layer(backbones.FEATURES).output)
    starts = range(0, len(pixels), BATCH)
    return np.concatenate(
        [
            np.asarray(extractor(pixels[i : i + BATCH].astype(np.float32), training=False))
            for i in progress.track(starts, "features", len(starts))
        ]
    )


def _units(rows: Sequence[Mapping[str, str]]) -> NDArray[np.int64]:
    """A number for each photo, that of its copies."""
    by_path: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_path.setdefault(row["copy_of"] or row["path"], []).append(i)
    number = np.empty(len(rows), np.int64)
    for n, unit in enumerate(joined(len(rows), by_path.values(), range(len(rows)))):
        number[list(unit)] = n
    return number


def keras_model(network: str, weights: Path, *, labels: int) -> Any:
    """The network in Keras 3 with a head that is not trained yet."""
    import keras

    architecture = backbones.Architecture(
        backbone=network, image_size=SIZES[network], channels=3, units=(UNITS,), labels=labels,
        seed=0,
    )  # fmt: skip
    return backbones.build(keras, architecture, weights=str(weights))


# One seed


@dataclass(frozen=True, kw_only=True)
class Split:
    """Photos by index: to train on, to choose and set the temperature by, and to be judged on."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_of(photos: Photos, seed: int) -> Split:
    """As the tool splits: stratified, copies together."""
    chosen_on, test = _halves(photos, np.arange(len(photos.truth)), CHOSEN_ON_SHARE, seed)
    train, validation = _halves(photos, chosen_on, FITTED_SHARE, seed)
    return Split(train=train, validation=validation, test=test)


def _halves(
    photos: Photos, among: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About that share of some photos, and the rest."""
    units: dict[int, list[int]] = {}
    for i in among:
        units.setdefault(int(photos.unit[i]), []).append(int(i))
    whole: list[Unit] = [tuple(unit) for unit in units.values()]
    label = {int(i): photos.labels[photos.truth[i]] for i in among}
    split = split_photos(label, photos.labels, whole, {}, train_share=share, seed=seed)
    first = np.array([split[int(i)] == TRAIN for i in among])
    return among[first], among[~first]


def trained(
    network: str, weights: Path, photos: Photos, split: Split, seed: int
) -> tuple[Any, NDArray[np.float64]]:
    """The whole network in Keras 3, its head trained as the tool does, and its probabilities of
    all photos."""
    import keras

    model = keras_model(network, weights, labels=len(photos.labels))
    shape = Head(units=(UNITS,), output="softmax")
    classifier = head.classifier(
        photos.features.shape[1:], head=shape, labels=len(photos.labels), dropout=DROPOUT,
        seed=seed,
    )  # fmt: skip
    compiled(classifier, optimizer=keras.optimizers.Adam(RATE), sigmoid=False)

    def examples(rows: NDArray[np.int64], order: int | None) -> Any:
        return batches(
            lambda chosen, round: photos.features[rows[chosen]], photos.truth[rows], None,
            size=BATCH, seed=order,
        )  # fmt: skip

    train, held = split.train, split.validation
    fit(classifier, examples(train, seed), examples(held, None), fits=(EPOCHS,), patience=PATIENCE)
    kernel, bias, last_kernel, last_bias = classifier.get_weights()
    model.get_layer("hidden").set_weights([kernel, bias])
    model.get_layer(backbones.PROBABILITIES).set_weights([last_kernel, last_bias])
    logits = np.asarray(classifier(photos.features, training=False), np.float64)
    temperature = fit_temperature(logits[held], photos.truth[held])
    head.divide_logits(model, temperature)
    logits = (logits - logits.max(axis=1, keepdims=True)) / temperature
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    whole = np.asarray(model(photos.pixels[:CHECKED].astype(np.float32), training=False))
    difference = float(np.abs(whole - probabilities[:CHECKED]).max())
    require_equal("benchmark", "head on features against the network", difference, SAME)
    return model, probabilities


def makers(
    model: Any, photos: Photos, split: Split, seed: int, options: argparse.Namespace
) -> dict[str, Callable[[], bytes]]:
    """For each file its maker."""
    import tf_keras

    from mobileclf.importing.flatten import flatten
    from mobileclf.models import qat, ranges, rewrites
    from mobileclf.models.distil import distil
    from mobileclf.models.reconstruct import reconstruct
    from mobileclf.tflite import convert

    pixels = photos.pixels[split.train]
    flat = flatten(model).graph
    plain = rewrites.rewritten(flat, without=OPTIONAL)
    graph = rewrites.rewritten(flat)

    def stock(of: Graph, count: int) -> bytes:
        return convert.post_training(build(tf_keras, of), "uint8", some(pixels, count))

    def calibrated() -> bytes:
        aware = qat.quantized(graph)
        ranges.calibrate(graph, aware, some(pixels, OWN_CALIBRATION))
        return convert.from_quantized_graph(aware, "uint8")

    @cache
    def start() -> Any:
        return reconstruct(graph, some(pixels, OWN_CALIBRATION), seed=seed).aware

    def reconstructed() -> bytes:
        return convert.from_quantized_graph(start(), "uint8")

    def distilled() -> bytes:
        distil(
            start(), build(tf_keras, graph), pixels, photos.pixels[split.validation],
            epochs=int(str(DEFAULTS["fine_tune_epochs"])),
            rate=float(str(DEFAULTS["fine_tune_rate"])),
            batch=DISTIL_BATCH, seed=seed, budget=seconds_of(options.distil),
        )  # fmt: skip
        return convert.from_quantized_graph(start(), "uint8")

    makes = {
        FLOATS[0]: lambda: convert.floating(build(tf_keras, plain), "float32"),
        FLOATS[1]: lambda: convert.floating(build(tf_keras, graph), "float32"),
        STOCK: lambda: stock(plain, CALIBRATION),
        "rewritten": lambda: stock(graph, CALIBRATION),
        "calibrated": calibrated,
        OURS: reconstructed,
    }
    if options.stock_500:
        makes["stock_500"] = lambda: stock(plain, MORE)
    if options.distil:
        makes[f"distilled_{options.distil}"] = (
            distilled  # the last: it trains the reconstructed one in place
        )
    return makes


def some(photos: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many, evenly over all, so that every class is among them; all where they are fewer."""
    if len(photos) <= count:
        return photos
    return photos[np.linspace(0, len(photos) - 1, count).round().astype(int)]


def one_seed(options: argparse.Namespace, photos: Photos, key: str, seed: int) -> Path:
    """Make, score and keep everything of one seed that is not there yet. Returns its folder."""
    folder: Path = options.keep / f"seed_{seed}"
    how = [
        UNITS, DROPOUT, EPOCHS, PATIENCE, RATE, CHOSEN_ON_SHARE, FITTED_SHARE, CALIBRATION, MORE,
        OWN_CALIBRATION,
    ]  # fmt: skip
    made_of = {"photos": key, "source": _source(), "how": how}
    if not (folder / "made_of.json").exists() or read_json(folder / "made_of.json") != made_of:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "made_of.json", made_of)
    split = split_of(photos, seed)
    wanted = [name for name in names(options) if not (folder / f"{name}.npy").exists()]
    # The float files are for other benchmarks, and are not asked here.
    wanted += [name for name in FLOATS if not (folder / f"{name}.tflite").exists()]
    if not wanted and (folder / "split.npz").exists():
        return folder
    model, probabilities = trained(options.network, options.weights, photos, split, seed)
    save_arrays(folder / "split.npz", **vars(split), float=probabilities)
    for name, make in makers(model, photos, split, seed, options).items():
        if name not in wanted:
            continue
        start = time.monotonic()
        data = make()
        write_bytes(folder / f"{name}.tflite", data)
        if name in FLOATS:
            continue
        answers = score_photos(data, photos.pixels[split.test], title=f"score {name}")
        np.save(folder / f"{name}.npy", answers)
        progress.say(f"seed {seed}: {name}, {time.monotonic() - start:.0f} s")
    return folder


def names(options: argparse.Namespace) -> list[str]:
    """Of the files of a seed, in the order of the tables."""
    more = ["stock_500"] if options.stock_500 else []
    distilled = [f"distilled_{options.distil}"] if options.distil else []
    between = ["rewritten", "calibrated"] if options.all else []
    return [STOCK, *more, *between, OURS, *distilled]


def _source() -> str:
    """A hash of the modules that the files come from."""
    root = Path(mobileclf.__file__).parent
    modules = [*root.glob("models/*.py"), *root.glob("importing/*.py"), root / "tflite/convert.py"]
    digest = hashlib.sha256()
    for path in sorted(modules):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def answers_of(folder: Path, name: str, photos: Photos) -> Answers:
    """What one candidate of a seed said beside the float model."""
    with np.load(folder / "split.npz", allow_pickle=False) as split:
        test, probabilities = split["test"], split["float"][split["test"]]
    scores = np.load(folder / f"{name}.npy", allow_pickle=False).astype(np.float64)
    return Answers(
        float=probabilities, int8=scores / 256, truth=photos.truth[test], unit=photos.unit[test]
    )


# What they show


def goals_of(network: str, ours: Record, test: Record) -> list[Record]:
    """Each goal, what was found, and whether it holds."""
    wanted = AGREEMENT[network]
    rows = [
        (f"agreement at least {wanted:.1%}", f"{ours['agreement']:.2%}",
         ours["agreement"] >= wanted),
        (f"KL at most {KL_OF_STOCK} of stock's", f"{ours['kl_of_stock']:.3f}",
         ours["kl_of_stock"] <= KL_OF_STOCK),
        (f"no flip where float's margin is over {MARGIN}", str(ours["flips_over_margin"]),
         not ours["flips_over_margin"]),
        (f"accuracy cost at most {100 * COST:.1f} points", f"{100 * ours['cost']:.2f}",
         ours["cost"] <= COST),
        (f"its upper bound at most {100 * COST_BOUND:.1f}", f"{100 * ours['cost_interval'][1]:.2f}",
         ours["cost_interval"][1] <= COST_BOUND),
        ("agrees with float more often than stock, p < 0.05 by photo",
         f"p = {test['p_agreement']:.2g}",
         test["agreement_gain"] > 0 and test["p_agreement"] < 0.05),
    ]  # fmt: skip
    return [{"goal": goal, "found": found, "holds": bool(holds)} for goal, found, holds in rows]


def summary(options: argparse.Namespace, photos: Photos, folders: Sequence[Path]) -> Record:
    """All figures of the seeds that are there."""
    all_names = names(options)
    each = {name: [answers_of(folder, name, photos) for folder in folders] for name in all_names}
    total = {name: pooled(answers) for name, answers in each.items()}
    test = compared(total[options.ours], total[STOCK])
    figures = {name: measured(answers, total[STOCK]) for name, answers in total.items()}
    return {
        "network": options.network,
        "image_size": SIZES[options.network],
        "photos": len(photos.truth),
        "calibration_photos": CALIBRATION,
        "own_calibration_photos": OWN_CALIBRATION,
        "ours": options.ours,
        "seeds": [
            {name: measured(each[name][i], each[STOCK][i]) for name in all_names}
            for i in range(len(folders))
        ],
        "pooled": figures,
        "ours_against_stock": test,
        "goals": goals_of(options.network, figures[options.ours], test),
    }


# What is printed


def rows_of_seed(seed: int, figures: Mapping[str, Record]) -> Iterator[str]:
    """A row for each candidate."""
    for name, row in figures.items():
        yield (
            f"| {seed} | {name} | {row['answers']} | {row['float_accuracy']:.1%} | "
            f"{row['accuracy']:.1%} | {row['agreement']:.2%} | {row['flips']} | "
            f"{row['flips_over_margin']} | {row['kl']:.5f} | {row['kl_of_stock']:.3f} | "
            f"{row['largest_change']:.3f} |"
        )


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """An `.npz` that is whole or absent."""
    with new_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def main() -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", choices=sorted(SIZES))
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--photos", type=int, help="no more than so many, for a trial")
    parser.add_argument("--all", action="store_true", help="rewritten and calibrated too")
    parser.add_argument("--stock-500", action="store_true", help="stock with 500 photos too")
    parser.add_argument("--distil", metavar="BUDGET", help="as 20m: fine-tune for so long")
    parser.add_argument("--ours", default=OURS, help=f"the goals are for this one [{OURS}]")
    parser.add_argument("--keep", type=Path, help="[a folder of the system's temporary one]")
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    options = parser.parse_args()
    options.keep = options.keep or Path(tempfile.gettempdir()) / f"quantization_{options.network}"
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.ours not in names(options):
        parser.error(f"--ours {options.ours}: wanted one of {', '.join(names(options))}")
    with chatter.led_to(options.keep / "seeds.log"):
        photos, key = photos_of(
            options.network, options.data, options.weights, options.keep, options.photos
        )
    print(
        "| seed | int8 | photos | float | int8 | agreement | flips | "
        f"over {MARGIN} | mean KL | of stock's | largest change |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    folders = []
    for seed in range(options.seeds):
        with chatter.led_to(options.keep / "seeds.log"):
            folders.append(one_seed(options, photos, key, seed))
        record = summary(options, photos, folders)
        print("\n".join(rows_of_seed(seed, record["seeds"][-1])), flush=True)
        if options.out:
            write_json(options.out, record)
    show_table(record["pooled"], len(folders))
    show_test(options.ours, STOCK, record["ours_against_stock"])
    show_goals(record["goals"])
    return 0 if all(goal["holds"] for goal in record["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
