"""From sums to a report: which layers fall, which are worst, and what makes it so."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mobileclf.records import Record
from mobileclf.wording import counted

from .noise import BIT

RULE = (
    f"a layer falls where its output lies {BIT:.2f} dB (one bit) or more under the worst of its "
    "inputs, each counted as at most {} dB, which the grid of half of the layers leaves"
)
# A share of the noise that a layer adds from which on it is called the cause.
MOST = 0.5
# How far the largest channel stands over the median one to be called an outlier: three bits.
OUTLIER = 8.0
# Root mean square of a kernel's differences, in steps. Rounding to the nearest gives 0.29, GPTQ
# and training a little more; a byte changed at random 100.
DAMAGED = 8.0
WORST = 5
MIXED = "mixed"
# Candidates that lose less of what a cause takes, and why. They are named where the run has them.
REMEDIES: Mapping[str, Mapping[str, str]] = {
    "weights": {
        "reconstructed": "rounds weights with the photos in view",
        MIXED: "keeps the most sensitive layers in float",
    },
    "overflow": {"stock": "has coarser kernels there"},
    "outlier": {"reconstructed": "has equalized channels, which share it better"},
    "rounding": {MIXED: "keeps the most sensitive layers in float"},
}


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What made a layer's output worse than its inputs. share: of the noise that it added, when
    that is known."""

    what: str
    share: float | None


def ceiling(grids: Sequence[float]) -> float:
    """What no input counts as better than, decibels: the median of what the layers' own grids
    leave of the float outputs. So a layer that reads the exact bytes of a photo does not fall
    because it is the first that rounds. grids: `grid_db` of the layers that round; of a file
    without any, what 8 bits leave of a sine that fills them, 6.02 * 8 + 1.76 dB."""
    return median(grids) if grids else 8 * BIT + 10 * math.log10(1.5)


def cause_of(row: Mapping[str, Any]) -> Cause | None:
    """The cause of one row's fall; None where it does not lie under its inputs at all.

    Noise adds up, as shares of the signal: what the output has over the worst input was added
    here. The float layer with the file's weights, and the float output put on the layer's grid,
    were measured alone, so each has a share in it. What neither explains is the integers' own,
    where sums can overflow, or comes of the inputs' noise, which this layer lets weigh more.
    """
    if row["fall_db"] is None or row["fall_db"] <= 0:
        return None
    added = _noise(row["snr_db"]) - _noise(row["input_db"])
    weights, grid = (_noise(row[key]) / added for key in ("weights_db", "grid_db"))
    if max(weights, grid) < MOST:
        return Cause(what="overflow" if row["overflow"] else "carried", share=None)
    share = min(max(weights, grid), 1.0)
    if weights >= grid:
        damaged = row["kernel_steps"] is not None and row["kernel_steps"] > DAMAGED
        return Cause(what="damaged" if damaged else "weights", share=share)
    if row["cut_share"] > MOST:
        return Cause(what="clipping", share=share)
    outlier = row["outlier"]
    wide = outlier is not None and outlier["times_median"] > OUTLIER
    return Cause(what="outlier" if wide else "rounding", share=share)


def _noise(decibels: float | None) -> float:
    """Noise as a share of the signal; None stands for no noise."""
    return 0.0 if decibels is None else 10 ** (-decibels / 10)


def summary(
    rows: Sequence[Mapping[str, Any]], most: float, candidates: Collection[str] = ()
) -> Record:
    """What the rows say together: first and largest fall, or where none falls what is nearest to
    it; worst layers, advice.

    most: the `ceiling`. candidates: the run's others, which advice may name.
    """
    falling = [row for row in rows if row["falls"]]
    measured = [row for row in rows if row["snr_db"] is not None and row["layers"]]  # no casts
    lower = [row for row in measured if row["fall_db"] is not None and row["fall_db"] > 0]
    largest = max(falling, key=_fall, default=None)
    nearest = None if falling else max(lower, key=_fall, default=None)
    named = falling[:1] if not falling or largest is falling[0] else [falling[0], largest]
    return {
        "rule": RULE.format(f"{most:.1f}"),
        "first_fall": falling[0]["layer"] if falling else None,
        "largest_fall": largest and largest["layer"],
        "nearest_to_a_fall": nearest and nearest["layer"],
        "falls": [row["layer"] for row in falling],
        "worst": [row["layer"] for row in sorted(measured, key=lambda row: row["snr_db"])[:WORST]],
        "output_db": measured[-1]["snr_db"] if measured else None,
        "advice": [
            _opening(rows, falling, nearest),
            *(advice(row, candidates) for row in named if row is not None),
        ],
    }


def _fall(row: Mapping[str, Any]) -> float:
    return float(row["fall_db"])


def _opening(
    rows: Sequence[Mapping[str, Any]],
    falling: Sequence[Mapping[str, Any]],
    nearest: Mapping[str, Any] | None,
) -> str:
    if falling:
        more = len(falling) - 1
        return f"it first falls at {falling[0]['layer']}" + (
            f", and at {counted(more, 'layer')} after it" if more else ", and nowhere else"
        )
    built_up = f"no layer falls: the noise builds up over {counted(len(rows), 'operator')}"
    if nearest is None:
        return built_up
    return f"{built_up}, most at {nearest['layer']}, {nearest['fall_db']:.1f} dB under its inputs"


def advice(row: Mapping[str, Any], candidates: Collection[str] = ()) -> str:
    """One line on what makes this layer worse than its inputs, and what helps.

    candidates: those of the run that may be named as a help.
    """
    where = f"{row['layer']} lies {row['fall_db']:.1f} dB under its inputs"
    cause = cause_of(row)
    if cause is None:
        return f"{row['layer']} is as good as its inputs"
    share = "" if cause.share is None else f"{cause.share:.0%}".replace("%", " %")
    better = "".join(
        f"; the candidate {name} {why}"
        for name, why in REMEDIES.get(cause.what, {}).items()
        if name in candidates
    )
    if cause.what == "damaged":
        return (
            f"{where}: its kernel is {row['kernel_steps']:.0f} steps off the network's, where "
            "rounding makes 0.3; the file is damaged or holds other weights: convert it again"
        )
    if cause.what == "weights":
        return (
            f"{where}: its weights in 8 bits alone make {share} of the noise that it adds{better}"
        )
    if cause.what == "clipping":
        low, high = row["range"]
        return (
            f"{where}: its range, {low:.4g} to {high:.4g}, cuts off values from "
            f"{row['float_range'][0]:.4g} to {row['float_range'][1]:.4g}, which makes {share} of "
            "the noise that it adds; more --calibration-photos widen it"
        )
    if cause.what == "overflow":
        return (
            f"{where}: its bias lies so high over the steps of its kernel in "
            f"{counted(len(row['overflow']), 'channel')} ({_first(row['overflow'])}) that sums "
            f"can leave 32 bits and come back with the other sign{better}"
        )
    if cause.what == "outlier":
        return (
            f"{where}: channel {row['outlier']['channel']} reaches "
            f"{row['outlier']['times_median']:.0f} times as far as the median channel and sets "
            f"the step for all, which makes {share} of the noise that it adds{better}"
        )
    if cause.what == "rounding":
        return (
            f"{where}: 8 bits for its output alone make {share} of the noise that it adds; 16 "
            f"bits (--int16x8) lose nothing there{better}"
        )
    return (
        f"{where}: neither its weights nor its grid make most of the noise that it adds: that of "
        "its inputs weighs more in its output than in them, so what helps is a better layer before"
    )


def _first(channels: Sequence[int], most: int = 4) -> str:
    named = ", ".join(map(str, channels[:most]))
    return f"{named} and more" if len(channels) > most else named


def finite(decibels: float) -> float | None:
    """For a record: None for no noise, and for noise where the network itself is silent."""
    return decibels if math.isfinite(decibels) else None
