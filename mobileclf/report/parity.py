"""What `mobileclf parity` shows: what ships beside float, and where a difference comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from mobileclf.records import Record
from mobileclf.wording import counted

from .table import percent, table

MOST_SHOWN = 20  # photos
FAMILIES = {"builtin": "builtin", "oldest_runtime": "tflite-runtime"}
SHOWN_P = 0.05


def tables(record: Record, *, where: Mapping[str, Any] | None = None) -> Group:
    """The record of parity: figures by kernels, gates that failed, classes and photos that changed,
    and where from: of the record, else of `where`, which is asked for where nothing failed."""
    families = {"xnnpack": {**record, "accuracy": record["int8"]["accuracy"]}}
    families |= {name: record[key] for key, name in FAMILIES.items() if key in record}
    shown = [_figures(record, families)]
    failed = [gate for gate in record["gates"] if not gate["passed"]]
    if failed:
        said = [(gate["gate"], gate["wanted"], gate["found"]) for gate in failed]
        shown.append(table("gates that failed", ("gate", "wanted", "found"), said))
    if record["changed"]:
        shown += [_classes(record), _changed(record)]
    if record["harmful_to_harmless"]:
        rows = [(path,) for path in record["harmful_to_harmless"][:MOST_SHOWN]]
        title = "harmful to harmless" + _of(len(record["harmful_to_harmless"]))
        shown.append(table(title, ("photo",), rows))
    told = record["where"] or where
    return Group(*shown, *(_where(told) if told else ()))


def _figures(record: Record, families: Mapping[str, Record]) -> Table:
    """One column for each kernel family that was scored."""
    gates = record["gates"]
    of = f" of {counted(record['units'], 'specimen')}" if record["units"] < record["n"] else ""
    passed = f"{sum(gate['passed'] for gate in gates)} of {len(gates)} gates passed"
    rows: dict[str, list[object]] = {
        "accuracy": [percent(one["accuracy"]) for one in families.values()],
        "same answers": [percent(one["agreement"]) for one in families.values()],
        "lost / won": [f"{one['lost']} / {one['won']}" for one in families.values()],
        "change of accuracy": [f"{one['difference']:+.4f}" for one in families.values()],
        "95 % interval": [_interval(one["interval"]) for one in families.values()],
        "bootstrap": [_interval(one["bootstrap"]) for one in families.values()],
        "McNemar's p": [one["mcnemar_p"] for one in families.values()],
        f"no drop over {record['max_drop']}": [one["verdict"] for one in families.values()],
        "photos to prove it": [one["photos_to_prove"] for one in families.values()],
    }
    found = [one["harmful"] for one in families.values()]
    if all(found):
        rows |= {
            "harmful not called harmless": [percent(each["int8"]) for each in found],
            "lost / won of these": [f"{each['lost']} / {each['won']}" for each in found],
            f"no drop of it over {record['max_missed']}": [each["verdict"] for each in found],
            "photos to prove that": [each["photos_to_prove"] for each in found],
        }
    if record["harmful_to_harmless"] is not None:
        turned = [len(one["harmful_to_harmless"]) for one in families.values()]
        rows["harmful to harmless"] = [*turned]
    if all(one["auc"] for one in families.values()):
        rows["change of AUC"] = [f"{one['auc']['difference']:+.4f}" for one in families.values()]
        rows["its 95 % interval"] = [_interval(one["auc"]["interval"]) for one in families.values()]
        rows["its p"] = [one["auc"]["p"] for one in families.values()]
    rows |= {
        "threshold, quanta": [_threshold(one) for one in families.values()],
        "verdicts changed, each by its own": [
            one["decisions"]["changed"] for one in families.values()
        ],
        "KL, nats": [one["kl"] for one in families.values()],
        "largest change of a score": [one["largest_change"] for one in families.values()],
        "mean change": [one["mean_change"] for one in families.values()],
        "ECE, float / int8": [
            f"{one['ece']['float']:.4f} / {one['ece']['int8']:.4f}" for one in families.values()
        ],
    }
    return table(
        f"parity: {record['verdict']} ({counted(record['n'], 'test photo')}{of}, float "
        f"{percent(record['float']['accuracy'])} right; {passed})",
        (f"{record['candidate']} against float", *families),
        [(name, *values) for name, values in rows.items()],
    )


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:+.4f} to {ends[1]:+.4f}"


def _threshold(one: Mapping[str, Any]) -> str:
    found = one["decisions"]["threshold_q"]
    return f"{found['float']} to {found['int8']}"


def _classes(record: Record) -> Table:
    """Only classes in which an answer was lost or won; McNemar's p after Holm's correction."""
    rows = [
        (row["label"], row["photos"], row["lost"], row["won"], row["p_holm"],
         "shown" if row["p_holm"] < SHOWN_P else "chance would do")
        for row in record["classes"]
        if row["lost"] or row["won"]
    ]  # fmt: skip
    columns = ("class", "photos", "lost", "won", "p, corrected", "change")
    return table("classes with answers lost or won", columns, rows)


def _changed(record: Record) -> Table:
    """Lost answers first."""
    order = sorted(record["changed"], key=lambda row: row["float"] != row["truth"])
    rows = [
        (row["path"], row["truth"], row["float"], row["int8"],
         "lost" if row["float"] == row["truth"] else "won" if row["int8"] == row["truth"] else "")
        for row in order[:MOST_SHOWN]
    ]  # fmt: skip
    title = "answers that changed" + _of(len(order))
    return table(title, ("photo", "truth", "float", "int8", ""), rows)


def _of(count: int) -> str:
    return f" ({MOST_SHOWN} of {count}; all in parity.json)" if count > MOST_SHOWN else ""


def _where(told: Mapping[str, Any]) -> list[Table]:
    shown = []
    if layers := told["layers"]:
        rows = [
            (row["layer"], *(each and f"{each:.1f}" for each in
             (row["snr_db"], row["input_db"], row["fall_db"])), row["cause"])
            for row in layers["largest_falls"]
        ]  # fmt: skip
        title = f"where: layers, dB, on {counted(len(told['photos']), 'photo')}; " + "; ".join(
            layers["advice"]
        )
        shown.append(table(title, ("layer", "output", "input", "fall", "cause"), rows))
    if runtimes := told["runtimes"]:
        parts = [(row["other"], *_parting(row)) for row in runtimes]
        title = f"where: first layer that parts from {runtimes[0]['one']}"
        shown.append(table(title, ("runtime", "layer", "differs by", "of values"), parts))
    if taken := told["delegates"]:
        rows = [
            (row["runtime"], row.get("delegate"), row.get("operators_taken"),
             ", ".join(f"{n} {name}" for name, n in row.get("operators_left", {}).items())
             or row["reason"])
            for row in taken
        ]  # fmt: skip
        columns = ("runtime", "delegate", "operators taken", "left to built-in kernels")
        shown.append(table("where: what runs where", columns, rows))
    if told["problems"]:
        rows = [(problem,) for problem in told["problems"]]
        shown.append(table("where: not told", ("why",), rows))
    return shown


def _parting(row: Mapping[str, Any]) -> tuple[object, ...]:
    if "problem" in row:
        return row["problem"], None, None
    first = row["first"]
    if first is None:
        return "none: not a byte differs", None, None
    layer = f"{first['operator']} {first['layer'].partition(';')[0]}"
    return layer, first["largest_difference"], f"{100 * first['share']:.2g} %"
