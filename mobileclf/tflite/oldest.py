"""Score photos on the oldest runtime, in a process of its own.

Its symbols clash with TensorFlow's in one process. MODEL, PHOTOS and SCORES are files in a folder
that both processes know; the child prints a line for each photo.
"""

from __future__ import annotations

from pathlib import Path

from .runtimes import OLDEST

MODEL, PHOTOS, SCORES = "model.tflite", "photos.npy", "scores.npy"


def main(folder: str) -> None:
    """In the child: do the work. Raises what the runtime raises."""
    import numpy as np

    from .interpreter import score_in_threads

    result = score_in_threads(
        (Path(folder) / MODEL).read_bytes(),
        np.load(Path(folder) / PHOTOS, allow_pickle=False),
        kernels="xnnpack",
        runtime=OLDEST,
        done=lambda: print("done", flush=True),
    )
    np.save(Path(folder) / SCORES, result)
