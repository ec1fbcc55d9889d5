"""Golden cases: pictures whose verdicts a phone must repeat, with every verdict among them.

Each case is what one picture file must become: the decoded pixels, the model's input, its
outputs and the verdict, all taken with the final model file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from . import progress
from .decision import (
    NOT_SURE,
    Classes,
    Decision,
    decision_score,
    possible_verdicts,
    sureness,
    verdicts,
)
from .errors import DataError, ProofError
from .images import sample
from .images.load import (
    ImageSpec,
    decode,
    decoded_bytes,
    orientation,
    resize,
    stored,
    upright,
)
from .records import sha256_bytes
from .source.store import open_store

FEWEST = 4
ENOUGH = 64  # of a user's pictures, once every verdict is among them
DRAWINGS = 12  # of each drawn class, looked through before any search
# Tries of one search from a picture, and from a blank, of which there are many.
LONG_SEARCH, SHORT_SEARCH, SHORT_SEARCHES = 1500, 150, 20
# Sizes of the drawn cases (width, height): wide, tall, square and one that is scaled up.
SIZES = ((320, 240), (240, 320), (256, 256), (48, 36))
ORIENTATION = 0x0112
SUFFIXES = (".jpg", ".jpeg", ".png")

Score = Callable[[NDArray[np.uint8]], NDArray[np.integer[Any]]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture file and what must come of it. output: quanta, one for each label."""

    suffix: str
    data: bytes
    decoded_sha256: str
    input_sha256: str
    output: tuple[int, ...]
    label: str
    verdict: str

    def as_record(self, image: str) -> dict[str, Any]:
        """The case as in bundle.json; image: path of the picture in the bundle."""
        return {
            "image": image,
            "decoded_sha256": self.decoded_sha256,
            "input_sha256": self.input_sha256,
            "output": list(self.output),
            "label": self.label,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class Judge:
    """All that a picture needs to get its verdict. score: uint8 (1, h, w, channels) to quanta."""

    spec: ImageSpec
    classes: Classes
    decision: Decision
    score: Score

    def case(self, data: bytes, suffix: str) -> Case:
        """What comes of the bytes of a picture file. Raises DataError when it is refused."""
        image = decode(data, self.spec)
        pixels = resize(image, self.spec)
        quanta = np.asarray(self.score(pixels[None]))
        return Case(
            suffix=suffix,
            data=data,
            decoded_sha256=sha256_bytes(decoded_bytes(image)),
            input_sha256=sha256_bytes(pixels.tobytes()),
            output=tuple(int(q) for q in quanta[0]),
            label=self.classes.labels[int(quanta[0].argmax())],
            verdict=verdicts(quanta, self.classes, self.decision)[0],
        )


def drawn(judge: Judge, seed: int) -> list[Case]:
    """At least FEWEST drawn cases with every verdict among them.

    Drawings are looked through first; a verdict that none of them gets is searched for by
    painting on the nearest one. Raises ProofError when one cannot be found; for `_may_lack`
    that is a warning.
    """
    cases = [judge.case(data, suffix) for data, suffix in _drawings(seed)]
    wanted = possible_verdicts(judge.classes, judge.decision)
    chosen: list[Case] = []
    for verdict in wanted:
        having = [case for case in cases if case.verdict == verdict]
        try:
            chosen.append(having[0] if having else _search(judge, verdict, cases, seed))
        except ProofError as error:
            if not _may_lack(judge.decision, verdict):
                raise
            progress.warn(str(error))
    rest = [case for case in cases if case not in chosen]
    return _fill_up(chosen, rest)


def from_photos(judge: Judge, source: Path) -> list[Case]:
    """Cases from a user's pictures in a folder or zip, all metadata but the orientation taken
    out of them.

    One for each verdict, then more up to FEWEST. Raises DataError when the pictures do not give
    every verdict; for `_may_lack` that is a warning.
    """
    store, names = open_store(source), pictures_in(source)
    wanted = possible_verdicts(judge.classes, judge.decision)
    cases: list[Case] = []
    for name in progress.track(names, "golden cases", len(names)):
        try:
            cases.append(judge.case(*_stripped(store.read(name), name, judge.spec)))
        except DataError as error:
            raise DataError(f"{source / name}: {error}") from error
        if len(cases) >= ENOUGH and {case.verdict for case in cases}.issuperset(wanted):
            break
    chosen: list[Case] = []
    for verdict in wanted:
        having = [case for case in cases if case.verdict == verdict]
        lacking = (
            f"--golden-from {source}: wanted a picture with the verdict {verdict!r}, "
            f"found none among {len(cases)}; add one"
        )
        if having:
            chosen.append(having[0])
        elif _may_lack(judge.decision, verdict):
            progress.warn(lacking)
        else:
            raise DataError(lacking)
    rest = [case for case in cases if case not in chosen]
    return _fill_up(chosen, rest)


def _may_lack(decision: Decision, verdict: str) -> bool:
    """Whether the cases may do without `verdict`: "not sure" by an abstain rule, whose band may be
    so narrow that no picture at hand lies in it."""
    return verdict == NOT_SURE and decision.group is not None and decision.purpose != "demo"


def pictures_in(source: Path) -> list[str]:
    """The JPEG and PNG files in a user's folder or zip, sorted. Raises DataError under FEWEST."""
    names = [name for name in open_store(source).names() if name.lower().endswith(SUFFIXES)]
    if len(names) < FEWEST:
        raise DataError(
            f"--golden-from {source}: wanted a folder or zip with at least {FEWEST} JPEG or PNG "
            f"pictures, found {len(names)}"
        )
    return names


def _fill_up(chosen: list[Case], rest: list[Case]) -> list[Case]:
    """Add cases until there are enough, and a JPEG and a PNG among them."""
    for suffix in (".jpg", ".png"):
        if all(case.suffix != suffix for case in chosen):
            chosen = [*chosen, *[case for case in rest if case.suffix == suffix][:1]]
    left = [case for case in rest if case not in chosen]
    return [*chosen, *left[: max(0, FEWEST - len(chosen))]]


def _drawings(seed: int) -> Iterator[tuple[bytes, str]]:
    """Drawn mushrooms as files of several shapes, every other a PNG, some turned by EXIF."""
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(DRAWINGS):
        for label in sample.LABELS:
            picture = sample.draw(label, rng, 192).resize(SIZES[count % len(SIZES)])
            turned = count % len(SIZES) == 1
            yield _encoded(picture, ".png" if count % 2 == 0 else ".jpg", turned=turned)
            count += 1


def _encoded(picture: Image.Image, suffix: str, *, turned: bool = False) -> tuple[bytes, str]:
    file = io.BytesIO()
    if suffix == ".png":
        picture.save(file, "PNG")
    else:
        exif = Image.Exif()
        if turned:
            # Stored lying on its side; whoever forgets the orientation sees another picture.
            picture = picture.transpose(Image.Transpose.ROTATE_90)
            exif[ORIENTATION] = 6
        picture.save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue(), suffix


def _search(judge: Judge, verdict: str, cases: list[Case], seed: int) -> Case:
    """Paint shapes on a picture, keeping what brings its outputs nearer to `verdict`.

    From the nearest pictures first; then from none, on black and on white: outputs of 0 show no
    way, and a digit is a few strokes.
    """
    rng = np.random.default_rng([seed, 1])
    near = sorted(cases, key=lambda case: -_nearness(judge, np.array([case.output]), verdict))
    starts = [(decode(case.data, judge.spec), LONG_SEARCH) for case in near[:2]]
    blanks = [Image.new("RGB", SIZES[2], colour) for colour in ("black", "white")]
    starts += [(blank, SHORT_SEARCH) for blank in blanks * SHORT_SEARCHES]
    tries = sum(steps for _, steps in starts)
    with progress.bar(f"a picture that is {verdict}", tries) as shown:
        for start, steps in starts:
            picture, best = start, -np.inf
            for _ in range(steps):
                shown.advance(shown.task_ids[0])
                painted = _painted(picture, rng)
                quanta = judge.score(resize(painted, judge.spec)[np.newaxis])
                if verdicts(quanta, judge.classes, judge.decision)[0] == verdict:
                    return judge.case(*_encoded(painted, ".png"))
                nearness = _nearness(judge, quanta, verdict)
                if nearness >= best:
                    picture, best = painted, nearness
    raise ProofError(
        f"bundle: wanted a golden picture with the verdict {verdict!r}, found none in "
        f"{tries} tries; give a folder or zip of photos that have it with --golden-from (a run "
        "on pixel CSVs keeps its own in pixels.zip)"
    )


def _nearness(judge: Judge, quanta: NDArray[np.integer[Any]], verdict: str) -> float:
    """How far outputs (1, labels) are towards `verdict`; larger is nearer. In quanta."""
    quanta = quanta.astype(np.int64)  # bytes would wrap around
    decision, classes = judge.decision, judge.classes
    score = float(decision_score(quanta, classes)[0])
    if verdict == decision.group:
        return score
    if decision.group is None:
        if verdict == NOT_SURE:
            return -score
        index = classes.labels.index(verdict)
        return float(quanta[0, index] - np.delete(quanta[0], index).max())
    rule = decision.abstain if decision.purpose != "demo" else None
    over = 0.0  # how far its sureness lies over the cut
    if rule is not None:
        over = float(sureness(quanta, classes, decision.threshold_q, rule.by)[0] - rule.cut_q)
    if verdict != NOT_SURE:
        own = float(quanta[0, classes.members(verdict)].sum())
        return own - score + min(0.0, over)
    if rule is None:
        return -score
    # Under the threshold, and under the cut.
    return -max(0.0, score - decision.threshold_q + 1) - max(0.0, over + 1)


def _painted(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A copy with one more shape on it: an ellipse, its outline or a stroke, see-through."""
    copy = picture.copy()
    width, height = copy.size
    x, y = (int(v) for v in (rng.integers(-width // 4, width), rng.integers(-height // 4, height)))
    w, h = int(rng.integers(2, width)), int(rng.integers(2, height))
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    share = float(rng.uniform(0.2, 1.0))
    pen, thick = ImageDraw.Draw(copy), int(rng.integers(1, max(2, width // 6)))
    match int(rng.integers(3)):
        case 0:
            pen.ellipse((x, y, x + w, y + h), fill=colour)
        case 1:
            pen.ellipse((x, y, x + w, y + h), outline=colour, width=thick)
        case _:
            across = w if rng.integers(2) else -w
            pen.line((x, y, x + across, y + h), fill=colour, width=thick)
    return Image.blend(picture, copy, share)


def _stripped(data: bytes, name: str, spec: ImageSpec) -> tuple[bytes, str]:
    """A picture file without EXIF (but orientation), profile, text or thumbnail."""
    image = stored(data, spec)  # refuses what cannot be used, with the reason
    if name.lower().endswith(".png"):
        return _encoded(upright(image), ".png")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation(image)
    clean = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    file = io.BytesIO()
    clean.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue(), ".jpg"
