"""Score photos on the oldest runtime in a process of its own: `python -m` this, and a folder.

Reads MODEL and PHOTOS in the folder, prints a line for each photo, writes SCORES.
"""

from __future__ import annotations

import sys
from pathlib import Path

MODEL, PHOTOS, SCORES = "model.tflite", "photos.npy", "scores.npy"


def main(folder: Path) -> None:
    """Do the work. Raises what the runtime raises."""
    import numpy as np

    from .interpreter import OLDEST, score_in_threads

    result = score_in_threads(
        (folder / MODEL).read_bytes(),
        np.load(folder / PHOTOS, allow_pickle=False),
        kernels="xnnpack",
        runtime=OLDEST,
        done=lambda: print("done", flush=True),
    )
    np.save(folder / SCORES, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
