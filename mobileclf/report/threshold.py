"""What `mobileclf threshold` shows: the decision, what it does, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from mobileclf.records import Record

from .curves import not_sure_words
from .table import facts, percent, table, text

MODELS = ("float", "int8")
REPORTED = "test"


def threshold_tables(record: Record) -> Group:
    """The tables of a `threshold.json`, warnings below them."""
    tables: list[RenderableType] = [
        facts("decision of what ships (int8)", _decision(record)),
        _points(record),
        _areas(record),
        _calibration(record["calibration"]),
    ]
    if record["others"] is not None:
        tables += _others(record["others"])
    return Group(*tables, *(text(f"warning: {line}", "yellow") for line in record["warnings"]))


def _decision(record: Record) -> Record:
    decision = record["decision"]
    found = {
        "chosen by": policy_words(record["policy"]),
        "chosen on": f"{record['chosen_on']} photos",
        "rule": record["rule"],
    }
    if record["rule"] == "group":
        found["harmful"] = decision["group"]
        found["“not sure”"] = not_sure_words(decision["abstain"], decision["threshold_q"])
    found |= {
        "threshold, of 1": decision["threshold"],
        "threshold, of 256": decision["threshold_q"],
        "kernels may move it by, of 256": decision["kernel_bound"],
    }
    if record["guarantee"] is not None:
        found["promised"] = guarantee_words(record["guarantee"])
    if record["abstain"] is not None:
        shares = (f"{part} {percent(n)}" for part, n in record["abstain"]["answered"].items())
        found["answered"] = ", ".join(shares)
    if record["purpose"] == "demo":
        found["as a demo"] = "“not sure” in place of harmless; the counts are without that"
    return found


def policy_words(policy: Mapping[str, Any]) -> str:
    """The policy with what was asked of it: `fix-tpr: tpr 0.95`."""
    asked = [
        f"{name.replace('_', ' ')} {value:g}"
        for key, found in policy.items()
        if key != "name"
        for name, value in (found.items() if isinstance(found, Mapping) else [(key, found)])
    ]
    return f"{policy['name']}: {', '.join(asked)}" if asked else str(policy["name"])


def guarantee_words(promise: Mapping[str, Any]) -> str:
    """A guarantee in one sentence, with what it rests on."""
    most, confidence = 100 * promise["most"], 100 * promise["confidence"]
    return (
        f"with {confidence:g} % confidence at most {most:g} % of harmful ones are called harmless "
        f"({promise['missed']} of {promise['harmful']} were, so at most "
        f"{100 * promise['bound']:.3g} % are; {promise['passed']} of {promise['harmless']} "
        f"harmless ones are called so; “not sure” is neither), on the kernels "
        f"{' and '.join(promise['kernels'])}; on test photos {promise['test']['missed']} of "
        f"{promise['test']['harmful']} were"
    )


def _points(record: Record) -> Table:
    """Both operating points side by side, the shipped one on the built-in kernels too."""
    own = record["operating_point"]
    group = record["rule"] == "group"
    names = ("caught", "false alarms") if group else ("right, given", "wrong, given")
    rows: list[tuple[object, ...]] = [
        ("threshold, of 256", *(own[name]["threshold_q"] for name in (*MODELS, "int8")))
    ]
    if group:
        rules = (own[model] for model in (*MODELS, "int8"))
        words = (not_sure_words(rule["abstain"], rule["threshold_q"]) for rule in rules)
        rows.append(("“not sure”", *words))
    rows += [
        (f"{name}, {record['chosen_on']}", *(percent(own[model][rate]) for model in MODELS), None)
        for name, rate in zip(names, ("tpr", "fpr"), strict=True)
    ]
    counts = record[REPORTED]
    columns = (*MODELS, "builtin")
    rows += [
        (f"{'photos' if key == 'n' else key.replace('_', ' ')}, {REPORTED}",
         *(counts[one][key] if one in counts else None for one in columns))
        for key in counts["int8"]
    ]  # fmt: skip
    return table("operating points", ("", *MODELS, "int8, built-in kernels"), rows)


def _areas(record: Record) -> Table:
    """One column for each model and part."""
    found = [(name, part) for name in MODELS for part in record["auc"][name]]
    intervals = [record["intervals"][name][part] or {} for name, part in found]
    each = [record["one_against_rest"][name][part] for name, part in found]
    rows = (
        ("area under ROC", *(_four(record["auc"][name][part]) for name, part in found)),
        ("95 %, DeLong", *(_range(one.get("delong")) for one in intervals)),
        ("95 %, bootstrap", *(_range(one.get("bootstrap")) for one in intervals)),
        ("photos, copies once", *(one.get("units") for one in intervals)),
        ("average precision", *(_four(record["average_precision"][n][p]) for n, p in found)),
        ("class against rest, mean", *(_four(one["macro"]) for one in each)),
        ("the same by photos", *(_four(one["weighted"]) for one in each)),
    )
    return table("how well the score tells them apart", ("", *map(", ".join, found)), rows)


def _calibration(record: Record) -> Table:
    rows = [
        (name, f"{one['ece']:.4f}", f"{one['brier']:.4f}")
        for name, one in record["variants"].items()
    ]
    fitted = record["temperature"]
    about = "not fitted" if fitted is None else f"{fitted:.3f}"
    return table(
        f"calibration on {record['part']}, temperature {about}", ("model", "ECE", "Brier"), rows
    )


def _others(record: Record) -> list[Table]:
    """What is said of images of other things, and how well that could be told at all."""
    said = {name: found for name, found in record.items() if isinstance(found, Mapping)}
    telling = said.pop("separation")
    verdicts = list(said["int8"])
    rows = [
        (name, *(f"{found[key]} ({percent(found[key] / record['images'])})" for key in verdicts))
        for name, found in said.items()
    ]
    title = f"other things, {record['images']} images"
    return [
        table(title, ("model", *(key.replace("_", " ") for key in verdicts)), rows),
        facts(
            "AUC, test photos against other things",
            {name.replace("_", " "): _four(area) for name, area in telling.items()},
        ),
    ]


def _four(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _range(ends: tuple[float, float] | None) -> str | None:
    return None if ends is None else f"{ends[0]:.3f}–{ends[1]:.3f}"
