"""Copies of one picture: found at any size and encoding, and nothing else taken for one."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobileclf.images.duplicates import (
    MAX_DISTANCE,
    candidates,
    correlation,
    distance,
    find_copies,
    signature,
)
from mobileclf.images.load import ImageSpec, decode
from mobileclf.images.sample import LABELS, draw

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))


def drawings(count: int, size: int = 128) -> list[Image.Image]:
    labels = list(LABELS)
    return [
        draw(labels[i % len(labels)], np.random.default_rng((11, i)), size) for i in range(count)
    ]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def test_copies_at_other_sizes_and_encodings_are_found_as_groups() -> None:
    pictures = drawings(40)
    pictures += [
        pictures[4].resize((90, 90)),
        jpeg(pictures[4], 60),
        jpeg(pictures[9].resize((300, 280), Image.Resampling.BICUBIC), 80),
    ]
    found = find_copies([signature(picture) for picture in pictures])
    assert found.groups == ((4, 40, 41), (9, 42))
    assert found.too_small == ()


def test_small_pictures_are_reported_and_never_merged() -> None:
    pictures = drawings(10)
    pictures += [pictures[2].resize((63, 63)), pictures[3].resize((64, 64))]
    found = find_copies([signature(picture) for picture in pictures])
    assert found.too_small == ((2, 10),)
    assert found.groups == ((3, 11),)


def test_a_mirrored_or_cropped_picture_is_another_picture() -> None:
    image = drawings(1)[0]
    others = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image.crop((0, 0, 100, 100))]
    assert find_copies([signature(i) for i in (image, *others)]).groups == ()


def test_pictures_without_contrast_are_copies_only_if_equal() -> None:
    plain = [Image.new("RGB", (80, 80), (shade, shade, shade)) for shade in (0, 0, 90)]
    assert find_copies([signature(i) for i in plain]).groups == ((0, 1),)


def test_pixels_decide_where_the_hash_cannot() -> None:
    """Equal hashes alone must not merge."""
    first, second = (signature(image) for image in drawings(2))
    forged = type(first)(hash=first.hash, grey=second.grey, short_side=128)
    assert find_copies([first, forged]).groups == ()
    assert find_copies([first, first]).groups == ((0, 1),)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_candidates_are_exactly_the_pairs_within_the_distance(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    base = [int(v) for v in rng.integers(0, 2**63, 4)]
    hashes = []
    for _ in range(count):
        value = base[rng.integers(4)]
        for bit in rng.integers(0, 64, rng.integers(0, 9)):
            value ^= 1 << int(bit)
        hashes.append(value)
    expected = [
        [i, j]
        for i in range(count)
        for j in range(i + 1, count)
        if (hashes[i] ^ hashes[j]).bit_count() <= MAX_DISTANCE
    ]
    assert candidates(np.array(hashes, dtype=np.uint64)).tolist() == expected


def test_distance_and_correlation_against_plain_formulas() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**63, (2, 50)).astype(np.uint64)
    assert distance(a, b).tolist() == [
        (int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True)
    ]
    left, right = rng.integers(0, 256, (2, 5, 6, 6)).astype(np.uint8)
    expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(left, right, strict=True)]
    np.testing.assert_allclose(correlation(left, right), expected, atol=1e-12)


def test_no_pictures_have_no_copies() -> None:
    assert find_copies([]).groups == ()


@pytest.mark.skipif(not (DATA / "mushrooms4").is_dir(), reason=f"no mushrooms4 in {DATA}")
def test_the_139_copies_among_the_mushrooms() -> None:
    spec = ImageSpec(width=1, height=1)
    paths = sorted((DATA / "mushrooms4").glob("*/*.jpg"))
    found = find_copies([signature(decode(path, spec)) for path in paths])
    assert sum(len(group) - 1 for group in found.groups) == 139


@pytest.mark.skipif(not (DATA / "cats_dogs").is_dir(), reason=f"no cats_dogs in {DATA}")
def test_no_copies_among_the_cats_and_dogs() -> None:
    spec = ImageSpec(width=1, height=1)
    paths = sorted((DATA / "cats_dogs").glob("*/*/*.jpg"))
    assert len(paths) == 900
    assert find_copies([signature(decode(path, spec)) for path in paths]).groups == ()
