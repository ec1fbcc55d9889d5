"""What a command shows of its stage's record: tables on stdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console, Group, RenderableType
from rich.table import Table

from mobileclf.matrix import MATRIX
from mobileclf.records import Record, read_json
from mobileclf.scores import FLOAT, PARTS
from mobileclf.settings import Settings
from mobileclf.stats.metrics import AVERAGES, RATES
from mobileclf.wording import counted

from . import matrix, parity
from .table import facts, percent, table, text
from .threshold import threshold_tables

MOST_SHOWN = 20  # files left out, pairs confused
MOST_CLASSES = 8  # of a confusion matrix that fits on a screen
REPORTED = "test"


def show(settings: Settings, stage: str, *, where: Record | None = None) -> None:
    """Print the result of `stage`; of the bundle stage, of everything that led to it. where: with
    parity, of `stages.parity.where`, what is shown of it."""
    console = Console(soft_wrap=False, highlight=False)
    folder = settings.run_folder
    shown = ("score", "select", "threshold", "parity") if stage == "bundle" else (stage,)
    tables: dict[str, tuple[str, Callable[[Record], RenderableType]]] = {
        "dataset": ("dataset.json", _dataset),
        "train": ("train.json", _train),
        "quantize": ("quantize.json", _quantize),
        "convert": ("convert.json", _convert),
        "score": ("metrics.json", _score),
        "select": ("selection.json", _select),
        "threshold": ("threshold.json", threshold_tables),
        "parity": ("parity.json", partial(parity.tables, where=where)),
    }
    for name in shown:
        file, make = tables[name]
        record = read_json(folder / file)
        console.print(_scores(record, [REPORTED]) if name == "score" != stage else make(record))
        if name == stage == "score" and (folder / MATRIX).exists():
            console.print(matrix.show(*matrix.read(folder)))
    if stage == "dataset":
        sheet = next(iter(record["sheets"].values()))
        console.print(text(f"contact sheets: {(folder / sheet).parent}"))
    if stage == "bundle":
        console.print(text(f"bundle: {settings.out / str(settings.name)}"))


def _dataset(record: Record) -> Group:
    rows = [
        (label, *(parts[part] for part in PARTS), sum(parts.values()))
        for label, parts in record["classes"].items()
    ]
    total = [record["parts"][part] for part in PARTS]
    rows.append(("all", *total, sum(total)))
    problems = record["problems"]
    title = (
        f"photos ({counted(record['copies'], 'copy', 'copies')}, "
        f"{counted(len(problems), 'file')} left out)"
    )
    tables = [table(title, ("class", *PARTS, "all"), rows)]
    if problems:
        first = [(row["problem"], row["path"]) for row in problems[:MOST_SHOWN]]
        more = f" ({MOST_SHOWN} of {len(problems)}; all in dataset.csv)"
        title = "left out" + (more if len(problems) > MOST_SHOWN else "")
        tables.append(table(title, ("why", "file"), first))
    if record["notes"]:
        tables.append(table("used, but noted", ("what", "files"), list(record["notes"].items())))
    return Group(*tables)


def _train(record: Record) -> Table:
    if "given" in record:
        return _given(record)
    return facts(
        "float model",
        {
            **{f"epochs, {phase['phase']}": _epochs(phase) for phase in record["phases"]},
            "best epoch": record["best_epoch"],
            "validation accuracy": record["validation"]["accuracy"],
            "validation loss": record["validation"]["after_temperature"]["loss"],
            "temperature": record["temperature"],
            "parameters": record["parameters"],
        },
    )


def _epochs(phase: Record) -> str:
    count = sum(fit["epochs"] for fit in phase["fits"])
    return f"{count}" if phase["kept"] else f"{count}, not kept: no better than before"


def _given(record: Record) -> Table:
    given = record["given"]
    order = given["label_order"]
    return facts(
        f"given model: {record['network']}",
        {
            "read as": given["format"],
            "input": " x ".join(
                str(record["input"][key]) for key in ("width", "height", "channels")
            ),
            "pixels as": f"{given['preprocess']['name']} ({given['preprocess_from']})",
            "left out": ", ".join(given["dropped"]) or "nothing",
            "its outputs": given["head"],
            "labels in the order of": order["given"],
            "right of photos seen so": f"{order['right']} of {order['photos']}",
            **{check["what"]: check["largest_difference"] for check in record["checks"]},
        },
    )


def _quantize(record: Record) -> Group:
    rows = [(c["what"], c["largest_difference"], c["bound"]) for c in record["checks"]]
    made = {"made": ", ".join(record["candidates"]) or "none"}
    if record["reason"]:
        made["why"] = record["reason"]
    shown = [
        table("equal functions", ("check", "largest difference", "bound"), rows),
        facts("int8 candidates", made),
    ]
    if course := record["distillation"]:
        found = {
            "steps": course["steps"],
            "ended by": course["stopped"],
            "best epoch": course["best_epoch"] or f"none: {_why_no_epoch(course)}",
            "KL on validation at the start": course["kl"][0],
            "of the best epoch": course["kl"][course["best_epoch"]],
        }
        shown.append(facts("distillation", found))
    if mixed := record["mixed"]:
        shown.append(facts("gate on validation", _gate(mixed, record["candidates"])))
    return Group(*shown)


def _why_no_epoch(course: Record) -> str:
    if course["steps"]:
        return "the start is nearer to float"
    return "no time for a first step"


def _gate(mixed: Record, candidates: Sequence[str]) -> Record:
    """What the last candidate that is int8 throughout was held to, and the mixed one after it."""
    whole = [name for name in candidates if name != "mixed"]
    found = {
        "photos": mixed["gate"]["photos"],
        "same answers, wanted": percent(mixed["gate"]["agreement"]),
        f"same answers, {whole[-1]}": percent(mixed["int8"]["agreement"]),
    }
    if mixed["mixed"]:
        found["same answers, mixed"] = percent(mixed["mixed"]["agreement"])
    if not mixed["passed"]:
        found["kept in float"] = ", ".join(mixed["float_layers"]) or "nothing would do"
    return found


def _convert(record: Record) -> Table:
    rows = [(c["candidate"], c["file"], c["bytes"]) for c in record["candidates"]]
    rows += [(c["variant"], c["file"], c["bytes"]) for c in record["others"]]
    return table("converted", ("model", "file", "bytes"), rows)


def _scores(record: Record, parts: Sequence[str] = PARTS) -> Group:
    """Every variant on each of `parts`, float and int8 under one another."""
    tables = []
    for part in parts:
        scored = {k: v["parts"][part] for k, v in record["variants"].items() if part in v["parts"]}
        top = next(key for key in scored[FLOAT] if key.startswith("top_"))
        rows = [
            (name, percent(one["accuracy"]), percent(one[top]), percent(one["macro"]["f1"]),
             one["loss"])
            for name, one in scored.items()
        ]  # fmt: skip
        columns = ("variant", "accuracy", top.replace("_", " "), "macro F1", "loss")
        title = f"{part}, {counted(scored[FLOAT]['n'], 'photo')}"
        tables.append(table(title, columns, rows))
    return Group(*tables)


def _score(record: Record) -> Group:
    """The scores, then each int8 candidate beside the float model on the test photos."""
    variants = record["variants"]
    reference = variants[FLOAT]["parts"][REPORTED]
    tables: list[RenderableType] = [_scores(record)]
    for variant in variants.values():
        if variant["kind"] == "int8" and variant["kernels"] == "xnnpack":
            found, name = variant["parts"][REPORTED], variant["candidate"]
            tables += [_by_class(reference, found, name), *_confusion(reference, found, name)]
    return Group(*tables)


def _by_class(reference: Record, found: Record, name: str) -> Table:
    rows = [
        (what, photos, *(f"{100 * one[rate]:.1f} / {100 * other[rate]:.1f}" for rate in RATES))
        for what, photos, one, other in (
            *(
                (label, one["photos"], one, found["classes"][label])
                for label, one in reference["classes"].items()
            ),
            *((f"({which} average)", "", reference[which], found[which]) for which in AVERAGES),
        )
    ]
    return table(f"{REPORTED} by class, %, float / {name}", ("class", "photos", *RATES), rows)


def _confusion(reference: Record, found: Record, name: str) -> list[Table]:
    """Of float and of int8: all of it where that can be read, else what is confused most often."""
    labels = list(reference["classes"])
    both = {FLOAT: reference["confusion"], name: found["confusion"]}
    if len(labels) <= MOST_CLASSES:
        heads = (f"{REPORTED}: truth, answers by number", *range(len(labels)))
        return [
            table(
                f"confusion, {which}",
                heads,
                [
                    (f"{i} {label}", *(count or "" for count in row))
                    for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
                ],
            )
            for which, matrix in both.items()
        ]
    mistakes = [
        (true, answer, a, b)
        for true, *pair in zip(labels, *both.values(), strict=True)
        for answer, a, b in zip(labels, *pair, strict=True)
        if true != answer and (a or b)
    ]
    most = sorted(mistakes, key=lambda row: -max(row[2:]))[:MOST_SHOWN]
    shown = f"confusion on {REPORTED} ({len(most)} of {len(mistakes)}; all in metrics.json)"
    return [table(shown, ("truth", "answer", FLOAT, name), most)]


def _select(record: Record) -> Table:
    rows = [
        (c["candidate"], "yes" if c["candidate"] == record["selected"] else "",
         percent(c["agreement"]), c["changed"], c["kl"], c["largest_change"],
         percent(c["accuracy"]))
        for c in record["candidates"]
    ]  # fmt: skip
    title = f"int8 candidates on {record['part']}, {record['n']} photos"
    if record["float_layers"]:
        title += f"; in float in what ships: {', '.join(record['float_layers'])}"
    columns = ("candidate", "ships", "same", "changed", "KL", "largest", "accuracy")
    return table(title, columns, rows)
