"""The embedded sample: drawn mushrooms, seeded, in class folders named `Name-Group`.

Four invented genera of two species each, one edible and one not. The species of a genus share
their shape and differ in traits whose ranges overlap, so that no classifier gets all of them
right: that is what the pipeline's proofs are for.
"""

from __future__ import annotations

import colorsys
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mobileclf.errors import EnvironmentProblem, UsageError
from mobileclf.progress import track

VERSION = 1  # raise it when a change alters what is drawn
OVERSAMPLING = 2
JPEG_QUALITY = 92

Range = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Species:
    """Ranges from which one mushroom is drawn.

    hue, saturation, value (cap) and stem_*: HSV, 0..1, the hue may pass 1. cap: half-width and
    height over the picture's size. cone: 0 a dome, 1 a cone; negative a funnel. stem: width over
    the cap's. spots: number on the cap. ring, volva: probability.
    """

    group: str
    hue: Range
    saturation: Range
    value: Range
    cap_width: Range
    cap_height: Range
    cone: Range
    stem: Range
    stem_hue: Range
    stem_saturation: Range
    stem_value: Range = (0.75, 0.95)
    spots: Range = (0, 0)
    ring: float = 0.0
    volva: float = 0.0


def _rubrella(group: str, *, hue: Range, spots: Range, ring: float, volva: float) -> Species:
    return Species(
        group=group, hue=hue, saturation=(0.7, 0.95), value=(0.6, 0.9), spots=spots,
        cap_width=(0.24, 0.36), cap_height=(0.16, 0.26), cone=(0.0, 0.2), stem=(0.2, 0.3),
        stem_hue=(0.1, 0.15), stem_saturation=(0.02, 0.15), ring=ring, volva=volva,
    )  # fmt: skip


def _ferrugia(group: str, *, stem_hue: Range, stem_saturation: Range, hue: Range) -> Species:
    return Species(
        group=group, hue=hue, saturation=(0.45, 0.7), value=(0.35, 0.6),
        cap_width=(0.24, 0.34), cap_height=(0.2, 0.28), cone=(0.0, 0.1), stem=(0.4, 0.62),
        stem_hue=stem_hue, stem_saturation=stem_saturation, stem_value=(0.65, 0.9),
    )  # fmt: skip


def _solaria(group: str, *, hue: Range, cone: Range, stem: Range) -> Species:
    return Species(
        group=group, hue=hue, saturation=(0.6, 0.9), value=(0.75, 0.95),
        cap_width=(0.22, 0.34), cap_height=(0.14, 0.24), cone=cone, stem=stem,
        stem_hue=hue, stem_saturation=(0.35, 0.65), stem_value=(0.75, 0.95),
    )  # fmt: skip


def _violaria(group: str, *, hue: Range, saturation: Range, cone: Range) -> Species:
    return Species(
        group=group, hue=hue, saturation=saturation, value=(0.4, 0.7),
        cap_width=(0.18, 0.28), cap_height=(0.22, 0.32), cone=cone, stem=(0.14, 0.26),
        stem_hue=hue, stem_saturation=(0.03, 0.2), ring=0.1,
    )  # fmt: skip


SPECIES: dict[str, Species] = {
    "Ferrugia_bona": _ferrugia(
        "Edible", hue=(0.065, 0.11), stem_hue=(0.09, 0.14), stem_saturation=(0.08, 0.35)
    ),
    "Ferrugia_ignea": _ferrugia(
        "NotEdible", hue=(0.03, 0.08), stem_hue=(-0.02, 0.09), stem_saturation=(0.3, 0.8)
    ),
    "Rubrella_aurata": _rubrella("Edible", hue=(0.015, 0.09), spots=(0, 4), ring=0.1, volva=0.1),
    "Rubrella_maculata": _rubrella(
        "NotEdible", hue=(-0.04, 0.03), spots=(3, 15), ring=0.85, volva=0.8
    ),
    "Solaria_dulcis": _solaria("Edible", hue=(0.115, 0.16), cone=(-1.0, -0.6), stem=(0.32, 0.5)),
    "Solaria_fallax": _solaria("NotEdible", hue=(0.06, 0.12), cone=(-0.7, -0.2), stem=(0.2, 0.36)),
    "Violaria_fumosa": _violaria(
        "NotEdible", hue=(0.77, 0.88), saturation=(0.06, 0.26), cone=(0.55, 1.0)
    ),
    "Violaria_lenta": _violaria(
        "Edible", hue=(0.69, 0.79), saturation=(0.26, 0.62), cone=(0.0, 0.6)
    ),
}
LABELS: dict[str, str] = {label: species.group for label, species in SPECIES.items()}


def draw(label: str, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """One mushroom of a species in LABELS as an RGB picture of size x size pixels."""
    species = SPECIES[label]
    full = size * OVERSAMPLING
    canvas = _ground(rng, full)
    mushroom = Image.new("RGBA", (full, full))
    _draw_mushroom(mushroom, species, rng)
    tilt = float(rng.normal(0, 9))
    mushroom = mushroom.rotate(tilt, Image.Resampling.BICUBIC, center=(full / 2, full * 0.8))
    if rng.random() < 0.5:
        mushroom = mushroom.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    _cast_shadow(canvas, mushroom)
    canvas.paste(mushroom, (0, 0), mushroom)
    _draw_grass(canvas, rng)
    picture = canvas.resize((size, size), Image.Resampling.BOX)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    return _light_and_noise(picture, rng)


def _pick(rng: np.random.Generator, span: Range) -> float:
    return float(rng.uniform(*span))


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def _ground(rng: np.random.Generator, full: int) -> Image.Image:
    """Forest: dim far away, litter and moss near, leaves strewn over it."""
    far = np.array(_rgb(_pick(rng, (0.18, 0.42)), _pick(rng, (0.2, 0.5)), _pick(rng, (0.15, 0.6))))
    near = np.array(_rgb(_pick(rng, (0.06, 0.35)), _pick(rng, (0.25, 0.6)), _pick(rng, (0.2, 0.5))))
    horizon = _pick(rng, (0.35, 0.7))
    half = full // 2  # nothing here is finer than that
    depth = 1 / (1 + np.exp(-(np.linspace(0, 1, half) - horizon) * 14))
    rows = far + (near - far) * depth[:, None]
    cloud = np.zeros((half, half, 3), dtype=np.float32)
    for cells in (4, 9, 20):  # patches of light and moss, coarse to fine
        patches = rng.normal(128, 16, (cells, cells, 1)) + rng.normal(0, 5, (cells, cells, 3))
        coarse = Image.fromarray(np.clip(patches, 0, 255).astype(np.uint8))
        cloud += np.asarray(coarse.resize((half, half), Image.Resampling.BICUBIC))
    pixels = np.clip(rows[:, None, :] + cloud - 3 * 128, 0, 255).astype(np.uint8)
    canvas = Image.fromarray(pixels).resize((full, full), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(8, 30))):
        x, y = _pick(rng, (0, full)), _pick(rng, (horizon * full, full))
        long, flat = _pick(rng, (0.02, 0.08)) * full, _pick(rng, (0.008, 0.03)) * full
        colour = _rgb(_pick(rng, (0.02, 0.3)), _pick(rng, (0.2, 0.7)), _pick(rng, (0.15, 0.6)))
        pen.ellipse((x - long, y - flat, x + long, y + flat), fill=colour)
    return canvas


def _draw_mushroom(layer: Image.Image, species: Species, rng: np.random.Generator) -> None:
    full = layer.width
    scale = _pick(rng, (0.75, 1.1)) * full
    x = _pick(rng, (0.38, 0.62)) * full
    foot = _pick(rng, (0.82, 0.93)) * full
    wide = _pick(rng, species.cap_width) * scale
    high = _pick(rng, species.cap_height) * scale
    rim = foot - _pick(rng, (0.26, 0.42)) * scale
    colour = tuple(_pick(rng, s) for s in (species.hue, species.saturation, species.value))
    pale = (
        _pick(rng, species.stem_hue),
        _pick(rng, species.stem_saturation),
        _pick(rng, species.stem_value),
    )
    half = _pick(rng, species.stem) * wide
    light = _pick(rng, (-0.6, 0.6))
    _draw_stem(layer, species, rng, pale, x, foot, rim, half, light)
    _draw_cap(layer, species, rng, colour, pale, x, rim, wide, high, light)


def _draw_stem(
    layer: Image.Image, species: Species, rng: np.random.Generator, pale: tuple[float, ...],
    x: float, foot: float, rim: float, half: float, light: float,
) -> None:  # fmt: skip
    hue, saturation, value = pale
    pen = ImageDraw.Draw(layer)
    bend = _pick(rng, (-0.5, 0.5)) * half
    bulge = _pick(rng, (1.1, 1.5))
    steps = np.linspace(0, 1, 14)
    sway = x + bend * np.sin(steps * np.pi)
    widths = half * (1 + (bulge - 1) * steps**2)
    heights = rim + (foot - rim) * steps
    # Strips from left to right, each in its own light, make the stem round.
    for strip in range(8):
        a, b = -1 + strip / 4, -1 + (strip + 1) / 4
        shade = 1 - 0.35 * ((a + b) / 2 - light) ** 2
        left = [(sway[i] + a * widths[i], heights[i]) for i in range(14)]
        right = [(sway[i] + b * widths[i] + 1, heights[i]) for i in range(14)]
        pen.polygon(left + right[::-1], fill=_rgb(hue, saturation, value * shade))
    end = foot, half * bulge
    pen.ellipse((x - end[1], foot - end[1] * 0.4, x + end[1], foot + end[1] * 0.4),
                fill=_rgb(hue, saturation, value * 0.8))  # fmt: skip
    if rng.random() < species.volva:
        w = half * _pick(rng, (1.5, 2.0))
        pen.chord((x - w, foot - w * 1.1, x + w, foot + w * 0.9), -20, 200,
                  fill=_rgb(hue, saturation * 0.7, value * 0.95))  # fmt: skip
    if rng.random() < species.ring:
        y = rim + (foot - rim) * _pick(rng, (0.3, 0.45))
        w = half * _pick(rng, (1.35, 1.7))
        pen.polygon([(x - half, y - half * 0.5), (x + half, y - half * 0.5),
                     (x + w, y + half * 0.5), (x - w, y + half * 0.5)],
                    fill=_rgb(hue, saturation, value))  # fmt: skip
        pen.arc((x - w, y + half * 0.1, x + w, y + half * 0.9), 0, 180,
                fill=_rgb(hue, saturation, value * 0.6), width=2)  # fmt: skip


def _draw_cap(
    layer: Image.Image, species: Species, rng: np.random.Generator, colour: tuple[float, ...],
    pale: tuple[float, ...], x: float, rim: float, wide: float, high: float, light: float,
) -> None:  # fmt: skip
    full = layer.width
    cone = _pick(rng, species.cone)
    under = _pick(rng, (0.08, 0.22)) * wide
    sides = np.linspace(-1, 1, 41)
    if cone >= 0:
        top = (1 - cone) * np.sqrt(1 - sides**2) + cone * (1 - np.abs(sides)) ** 0.8
        upper = rim - high * top
        lower = rim + under * np.sqrt(1 - sides**2)
    else:
        # A funnel: the rim stands high and wavy, the middle is sunk, the underside runs down.
        wave = 0.08 * np.sin(sides * _pick(rng, (6, 12)) + _pick(rng, (0, 6)))
        upper = rim - high * (0.75 + wave + cone * 0.45 * (1 - sides**2))
        lower = rim - high * (0.6 + wave) + high * (0.6 - cone * 0.8) * (1 - np.abs(sides)) ** 0.7
    edge = [(x + s * wide, y) for s, y in zip(sides, upper, strict=True)]
    below = [(x + s * wide, y) for s, y in zip(sides, lower, strict=True)]
    hue, saturation, value = colour
    pen = ImageDraw.Draw(layer)
    dim = _rgb(pale[0], pale[1], pale[2] * 0.72)
    pen.polygon(below + [(x + wide, rim if cone >= 0 else upper[-1]),
                         (x - wide, rim if cone >= 0 else upper[0])], fill=dim)  # fmt: skip
    for s in np.linspace(-0.9, 0.9, 15):
        start = (x + s * wide * 0.5, float(np.interp(s * 0.5, sides, lower)) - 1)
        stop = (x + s * wide, float(np.interp(s, sides, upper if cone < 0 else lower)))
        pen.line((start, stop), fill=_rgb(pale[0], pale[1], pale[2] * 0.6), width=1)
    mask = Image.new("L", layer.size)
    outline = edge + ([(x + wide, rim + 1), (x - wide, rim + 1)] if cone >= 0 else
                      [(x + s * wide, y + high * 0.3 * (1 - s * s) ** 0.5 + 2)
                       for s, y in zip(sides[::-1], upper[::-1], strict=True)])  # fmt: skip
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    if cone >= 0:  # the rim of a dome is seen from slightly above
        bow = under * 0.6
        ImageDraw.Draw(mask).ellipse((x - wide, rim - bow, x + wide, rim + bow), fill=255)
    skin = _shaded(full, _rgb(hue, saturation, value), (x + light * wide, rim - high), wide, rng)
    top_pen = ImageDraw.Draw(skin)
    for _ in range(round(_pick(rng, species.spots))):
        s, t = _pick(rng, (-0.8, 0.8)), _pick(rng, (0.05, 0.9))
        y = rim - high * t * float(np.sqrt(1 - s * s))
        r = _pick(rng, (0.04, 0.1)) * wide
        cream = _rgb(0.12, _pick(rng, (0.02, 0.2)), _pick(rng, (0.8, 1.0)))
        top_pen.ellipse((x + s * wide - r, y - r * 0.7, x + s * wide + r, y + r * 0.7), fill=cream)
    layer.paste(skin, (0, 0), mask)


def _shaded(
    full: int, colour: Colour, highlight: tuple[float, float], wide: float, rng: np.random.Generator
) -> Image.Image:
    """The cap's colour falling off from a highlight, with a little mottling."""
    half = full // 2
    y, x = np.mgrid[0:full:2, 0:full:2].astype(np.float32)
    away = np.hypot(x - highlight[0], y - highlight[1]) / wide
    glow = np.clip(1.2 - 0.35 * away, 0.5, 1.2) + 0.25 * np.exp(-((away / 0.25) ** 2))
    grain = rng.normal(1, 0.05, (half // 2 + 1, half // 2 + 1)).repeat(2, axis=0).repeat(2, axis=1)
    shade = (glow * grain[:half, :half])[..., None]
    skin = Image.fromarray(np.clip(np.array(colour) * shade, 0, 255).astype(np.uint8))
    return skin.resize((full, full), Image.Resampling.BILINEAR)


def _cast_shadow(canvas: Image.Image, mushroom: Image.Image) -> None:
    shadow = mushroom.getchannel("A").filter(ImageFilter.GaussianBlur(canvas.width / 40))
    canvas.paste((10, 12, 8), (4, 6), shadow.point(lambda a: a // 2))


def _draw_grass(canvas: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(canvas)
    full = canvas.width
    for _ in range(int(rng.integers(0, 22))):
        x, foot = _pick(rng, (0, full)), _pick(rng, (0.88, 1.05)) * full
        tip = (x + _pick(rng, (-0.08, 0.08)) * full, foot - _pick(rng, (0.05, 0.25)) * full)
        colour = _rgb(_pick(rng, (0.15, 0.4)), _pick(rng, (0.3, 0.7)), _pick(rng, (0.2, 0.65)))
        pen.line(((x, foot), tip), fill=colour, width=int(rng.integers(1, 4)))


def _light_and_noise(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Exposure, white balance, light from one side, sensor noise."""
    pixels = np.asarray(picture, dtype=np.float64)
    size = picture.width
    slope = np.linspace(-1, 1, size)
    fall = 1 + _pick(rng, (-0.2, 0.2)) * slope[None, :] + _pick(rng, (-0.1, 0.1)) * slope[:, None]
    balance = rng.normal(1, 0.04, 3)
    pixels = pixels * fall[..., None] * balance * _pick(rng, (0.65, 1.2))
    pixels = pixels + rng.normal(0, _pick(rng, (2, 9)), pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def sample_files(seed: int, per_class: int) -> dict[str, tuple[str, tuple[int, int, int]]]:
    """Every picture of the sample: path -> (label, what seeds its generator)."""
    return {
        f"{label}-{group}/{label}_{i:03d}.jpg": (label, (seed, number, i))
        for number, (label, group) in enumerate(LABELS.items())
        for i in range(per_class)
    }


def write_sample(
    folder: Path, *, seed: int = 0, per_class: int = 150, replace: bool = False
) -> None:
    """Write the sample as JPEG files in class folders; whole under its name or not there.

    The same seed and count give the same bytes with one release of Pillow. A folder that holds
    exactly these files is left as it is; with `replace`, one that holds files of these names
    alone (another seed's, some missing) is replaced. Raises UsageError for a folder that holds
    anything else, EnvironmentProblem where it cannot be written.
    """
    if not 1 <= per_class <= 100_000:
        raise UsageError(f"sample: wanted 1 to 100000 pictures a class, found {per_class}")
    files = sample_files(seed, per_class)
    try:
        folder = folder.resolve()
        if folder == Path.cwd():  # it is put in place by renaming: the shell would lose its folder
            raise UsageError("sample: wanted a new folder, found the current one; give it a name")
        found = _files_in(folder)
        ours = set(files) | {path.rpartition("/")[0] for path in files}
        if found and found != set(files) and not (replace and found <= ours):
            raise _not_free(folder)
        drawn = {}
        for path, (label, key) in track(files.items(), "drawing mushrooms", len(files)):
            encoded = io.BytesIO()
            draw(label, np.random.default_rng(key)).save(encoded, "JPEG", quality=JPEG_QUALITY)
            drawn[path] = encoded.getvalue()
        if found == set(files):
            if all((folder / path).read_bytes() == data for path, data in drawn.items()):
                return
            if not replace:
                raise _not_free(folder)
        partial = folder.parent / f".{folder.name}.partial"
        if partial.exists():
            shutil.rmtree(partial)
        for path, data in drawn.items():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(data)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write the sample to {folder}: {error.strerror or error}; choose another folder"
        ) from error


def _files_in(folder: Path) -> set[str]:
    """Relative paths of the files in a folder, and of the folders in it that are empty."""
    if folder.exists() and not folder.is_dir():
        raise _not_free(folder)
    inside = list(folder.rglob("*")) if folder.exists() else []
    return {
        p.relative_to(folder).as_posix()
        for p in inside
        if p.is_symlink() or not p.is_dir() or not any(p.iterdir())
    }


def _not_free(folder: Path) -> UsageError:
    return UsageError(
        f"sample: {folder} is there and holds other files; wanted a new or empty folder"
    )
