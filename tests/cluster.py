"""A Dask cluster on loopback that tests share: a real scheduler, each worker a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def dask_cluster(workers: int = 2) -> Iterator[str]:
    """The address of its scheduler."""
    distributed = pytest.importorskip("dask.distributed", reason="needs Dask (extra dev)")
    with distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs="CRITICAL",
    ) as cluster:
        yield cluster.scheduler_address
