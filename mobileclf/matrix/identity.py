"""Which entries must give the same bytes, whether they do, and who is alike besides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobileclf.records import Record
from mobileclf.tflite.runtimes import OLDEST

from .entries import Result, family_of, name_of

# Of a probability. Sums of floats in another order: 1.2e-7 at most was seen on InceptionV3.
FLOAT_BOUND = 1e-5
# Of a probability, where activations are rounded to integers by a range that is found in float: a
# value beside a tie is rounded the other way. 0.0012 was seen between kernel families.
HYBRID_BOUND = 0.01
QUANTUM = 1.0  # the same of an output that is rounded itself


def identity(results: Sequence[Result]) -> list[Record]:
    """One record for each pair of entries of a variant that ran on kernels of one family: `what`,
    `photos`, the `largest_difference` of any output (in quanta where these are the outputs), the
    `bound` on it, and whether it `passed`. A bound of 0 asks for the same bytes; None is of what
    nothing is promised, and passes.

    Each entry is held against the first on the same runtime, which is held against the first of
    the family.
    """
    found: list[Record] = []
    first: dict[tuple[str, ...], Result] = {}
    for result in results:
        if result.scores is None:
            continue
        of_family = (result.entry.variant.name, family_of(result))
        at_first = first.setdefault(of_family, result)
        reference = first.setdefault((*of_family, result.entry.runtime), result)
        if reference is result:
            reference = at_first
        if reference is not result:
            found.append(_held(reference, result))
    return found


def _held(reference: Result, result: Result) -> Record:
    assert reference.scores is not None and result.scores is not None
    photos = min(len(reference.scores), len(result.scores))
    difference = largest(reference.scores[:photos], result.scores[:photos])
    bound = bound_of(reference, result)
    if bound == 0:
        passed = same_bytes(reference, result)
    else:
        passed = bound is None or difference <= bound  # a NaN is not
    return {
        "what": f"{result.entry.variant.name} on {family_of(result)} kernels: "
        f"{name_of(reference.entry)} against {name_of(result.entry)}",
        "photos": photos,
        "largest_difference": difference if math.isfinite(difference) else None,
        "bound": bound,
        "passed": passed,
    }


def bound_of(reference: Result, result: Result) -> float | None:
    """How far the outputs may lie apart of two entries of a variant and a family.

    Integers: not at all. Between releases years apart only XNNPACK's are the same; the others are
    not promised (a small network's were a quantum apart). XNNPACK and the reference kernels sum
    floats in one order whatever the threads; the built-in ones do not.
    """
    variant, family = result.entry.variant, family_of(result)
    one_runtime = reference.entry.runtime == result.entry.runtime
    ages = OLDEST in (reference.entry.runtime, result.entry.runtime) and not one_runtime
    in_one_order = one_runtime and family != "builtin"
    if variant.arithmetic == "integers":
        return None if ages and not family.startswith("xnnpack") else 0.0
    if in_one_order:
        return 0.0
    if variant.arithmetic == "float":
        return FLOAT_BOUND
    if ages:
        return None
    return QUANTUM if variant.quanta else HYBRID_BOUND


def largest(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """The largest difference of any output, in the outputs' own units."""
    return float(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0))


def same_bytes(one: Result, other: Result) -> bool:
    """Whether the outputs of the photos that both have are the same, bit for bit."""
    if one.scores is None or other.scores is None or one.scores.dtype != other.scores.dtype:
        return False
    photos = min(len(one.scores), len(other.scores))
    return one.scores[:photos].tobytes() == other.scores[:photos].tobytes()


def alike(results: Sequence[Result]) -> list[str | None]:
    """For each, the first before it of the same variant whose outputs are the same bytes."""
    found: list[str | None] = []
    for i, result in enumerate(results):
        same = (
            name_of(other.entry)
            for other in results[:i]
            if other.entry.variant == result.entry.variant and same_bytes(other, result)
        )
        found.append(next(same, None))
    return found
