"""Rewrites of a trained network that keep its function and suit int8 arithmetic, by name.

Each is a function of the graph alone; `proofs` holds it to the function before it, on photos.
Numbers are float64 on the way and rounded to float32 once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from mobileclf.errors import UsageError

from . import maps, pools, rules, scales, walk
from .graph import Graph


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """One step. what: in a line. required: without it int8 has no kernel for what it rewrites."""

    name: str
    what: str
    apply: Callable[[Graph], Graph]
    required: bool = False


# In the order in which they are done: one makes what a later one takes.
REWRITES = (
    Rewrite(
        name="dead-branches",
        what="layers that no answer depends on go away",
        apply=walk.live,
    ),
    Rewrite(
        name="merges-in-pairs",
        what="a sum, product, maximum or minimum of several is taken two at a time; a mean is a "
        "sum and a scale",
        apply=rules.merges_in_pairs,
        required=True,
    ),
    Rewrite(
        name="long-concatenations",
        what="a concatenation of more than five, which XNNPACK lacks, is one of concatenations",
        apply=rules.long_concatenations,
    ),
    Rewrite(
        name="dense-on-maps",
        what="a dense layer on a map of features is a 1x1 convolution",
        apply=rules.dense_on_maps,
        required=True,
    ),
    Rewrite(
        name="biases",
        what="a convolution or dense layer without a bias gets one of 0",
        apply=rules.biases,
        required=True,
    ),
    Rewrite(
        name="activations-apart",
        what="an activation that TFLite does not compute in one with its layer is a layer",
        apply=rules.activations_apart,
        required=True,
    ),
    Rewrite(
        name="clips-at-six",
        what="a ReLU that ends at another value than 6, as in a hard sigmoid, ends at 6, scaled "
        "before and after",
        apply=rules.clips_at_six,
        required=True,
    ),
    Rewrite(
        name="identities",
        what="layers that do nothing go away",
        apply=rules.identities,
    ),
    Rewrite(
        name="input-scale",
        what="what scales and orders the input's channels goes into the first convolution",
        apply=maps.input_scale,
    ),
    Rewrite(
        name="batch-norms",
        what="batch norms and other scales by channel go into the layers before or after them",
        apply=maps.batch_norms,
    ),
    Rewrite(
        name="scales-onward",
        what="a scale before products and pools goes into the convolutions behind them",
        apply=scales.scales_onward,
    ),
    Rewrite(
        name="pools-of-one",
        what="a pool over one pixel is a 1x1 depthwise convolution with its stride",
        apply=pools.pools_of_one,
    ),
    Rewrite(
        name="pointwise-first",
        what="a 1x1 convolution that gives fewer channels than it takes goes before the average "
        "pool that it follows",
        apply=pools.pointwise_first,
    ),
    Rewrite(
        name="average-pools",
        what="an average pool is a depthwise convolution and a correction at the edges",
        apply=pools.average_pools,
    ),
    Rewrite(
        name="scales-as-convolutions",
        what="scales by channel that are left are 1x1 depthwise convolutions",
        apply=scales.scales_as_convolutions,
        required=True,
    ),
    Rewrite(
        name="lone-relus",
        what="a ReLU that is computed in one with no other layer is one of a 1x1 depthwise "
        "convolution",
        apply=pools.lone_relus,
    ),
    Rewrite(
        name="equal-layers",
        what="equal layers that read the same are one",
        apply=rules.equal_layers,
        required=True,  # TFLite's converter makes them one, and their ranges may differ
    ),
)
OPTIONAL = tuple(rewrite.name for rewrite in REWRITES if not rewrite.required)


def check(names: Collection[str]) -> None:
    """Raise UsageError for a name of no rewrite that can be left out."""
    for name in names:
        if name not in OPTIONAL:
            known = name in {rewrite.name for rewrite in REWRITES}
            why = "without it there is no int8" if known else "there is no such rewrite"
            raise UsageError(f"--without {name!r}: {why}; wanted some of {', '.join(OPTIONAL)}")


def rewritten(graph: Graph, without: Collection[str] = ()) -> Graph:
    """The same function in layers that int8 knows; convolutions have biases.

    Layers keep their names; new ones are called after the layer that they stand for. without:
    names of rewrites that are left out. Raises UsageError for one that cannot be.
    """
    last = graph
    for _, after in steps(graph, without):
        last = after
    return last


def steps(graph: Graph, without: Collection[str] = ()) -> Iterator[tuple[Rewrite, Graph]]:
    """Each rewrite that changes something, and the graph after it, rounded to float32."""
    check(without)
    graph = walk.in_precision(graph, np.float64)
    for rewrite in REWRITES:
        if rewrite.name in without:
            continue
        after = rewrite.apply(graph)
        if not walk.same(graph, after):
            yield rewrite, walk.in_precision(after, np.float32)
        graph = after
