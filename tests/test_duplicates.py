"""Copies of one picture: found at any size and encoding, and nothing else taken for one."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mobileclf.images.duplicates import (
    CROWDED,
    MAX_DISTANCE,
    MIN_CORRELATION,
    NEIGHBOURS,
    Signature,
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


def tiny(values: NDArray[np.uint8]) -> Signature:
    return signature(Image.fromarray(values).convert("RGB"))


def test_equal_pixels_are_copies_however_small_and_one_other_pixel_is_none() -> None:
    rng = np.random.default_rng(4)
    digits = rng.integers(0, 17, (50, 8, 8), dtype=np.uint8) * 15
    other = digits[7].copy()
    other[4, 4] ^= 1
    wider = np.pad(digits[7], ((0, 0), (0, 1)))
    found = find_copies([tiny(d) for d in (*digits, digits[7], other, wider, digits[7], digits[9])])
    assert found.groups == ((7, 50, 53), (9, 54))
    assert all(set(pair) & {7, 51, 52} for pair in found.too_small)


def test_the_same_numbers_in_another_shape_are_another_picture() -> None:
    values = np.arange(64 * 96, dtype=np.uint32).astype(np.uint8)
    shapes = [tiny(values.reshape(shape)) for shape in ((64, 96), (96, 64))]
    assert shapes[0].pixels != shapes[1].pixels


def test_a_picture_is_in_one_pair_of_small_ones_at_most() -> None:
    rng = np.random.default_rng(6)
    base = rng.integers(20, 230, (40, 40))
    alike = [tiny((base + rng.integers(0, 2, (40, 40))).astype(np.uint8)) for _ in range(30)]
    found = find_copies(alike)
    assert found.groups == ()
    assert found.too_small == tuple((0, i) for i in range(1, 30))


def test_scikit_learns_digits_are_all_different() -> None:
    from sklearn.datasets import load_digits

    digits = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    looks = [tiny(digit) for digit in digits]
    assert len(looks) == 1797 and find_copies(looks).groups == ()
    assert find_copies([*looks, looks[3]]).groups == ((3, 1797),)


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
    forged = replace(first, grey=second.grey, pixels=second.pixels)
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
    pairs, crowded = candidates(np.array(hashes, dtype=np.uint64))
    assert pairs.tolist() == expected
    assert crowded.tolist() == []


def test_a_crowd_is_named_and_costs_no_more_than_its_size() -> None:
    count = 3000
    assert count > 10 * CROWDED
    rng = np.random.default_rng(1)
    hashes = np.full(count + 300, 77, dtype=np.uint64)
    hashes[count:] = rng.integers(0, 2**63, 300).astype(np.uint64) << np.uint64(1)
    hashes[-1] = hashes[-2] ^ np.uint64(0b111)
    pairs, crowded = candidates(hashes)
    assert set(range(count)) <= set(crowded.tolist())
    assert [count + 298, count + 299] in pairs.tolist()
    assert len(pairs) <= NEIGHBOURS * count + 300
    # Neighbours hold a crowd of true copies together.
    reached = {0}
    for i, j in pairs.tolist():
        if i in reached:
            reached.add(j)
    assert set(range(count)) <= reached


def on_plain_ground(count: int) -> NDArray[np.uint8]:
    """Different blots near the middle of one white ground, uint8 (count, 32, 32)."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:32, :32] / 31 - 0.5
    found = np.empty((count, 32, 32), dtype=np.uint8)
    for i in range(count):
        (right, low), (wide, high) = rng.normal(0, 0.06, 2), rng.uniform(0.1, 0.28, 2)
        inside = ((x - right) / wide) ** 2 + ((y - low) / high) ** 2 < 1
        texture = rng.normal(0, 12, (8, 8)).repeat(4, axis=0).repeat(4, axis=1)
        found[i] = np.clip(np.where(inside, rng.uniform(30, 200) + texture, 245), 0, 255)
    return found


def test_copies_are_found_among_many_that_the_hash_cannot_tell_apart() -> None:
    greys = on_plain_ground(1500)
    noise = np.random.default_rng(3).normal(0, 1.5, (30, 32, 32))
    copies = np.clip(greys[::50] + noise, 0, 255).astype(np.uint8)
    assert (correlation(greys[::50], copies) > MIN_CORRELATION).all()
    looks = [
        Signature(hash=77, grey=grey, short_side=200, pixels=str(i))
        for i, grey in enumerate(np.concatenate([greys, copies]))
    ]
    group_of = {i: group for group in find_copies(looks).groups for i in group}
    assert all(1500 + k in group_of[50 * k] for k in range(30))


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


@pytest.mark.skipif(not (DATA / "cats_dogs").is_dir(), reason=f"no cats_dogs in {DATA}")
def test_twenty_copied_resized_and_encoded_photos_are_found_and_no_other_pair() -> None:
    spec = ImageSpec(width=1, height=1)
    paths = sorted((DATA / "cats_dogs").glob("*/*/*.jpg"))
    rng = np.random.default_rng(8)
    photos = [decode(paths[i], spec) for i in rng.choice(len(paths), 120, replace=False)]
    copies = []
    for photo in photos[:20]:
        scale = rng.uniform(0.5, 0.9)
        size = round(photo.width * scale), round(photo.height * scale)
        kind = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
        small = photo.resize(size, kind[rng.integers(3)])
        copies.append(jpeg(small, int(rng.integers(40, 96))))
    found = find_copies([signature(photo) for photo in (*photos, *copies)])
    assert found.groups == tuple((i, 120 + i) for i in range(20))
    together = {frozenset(group) for group in found.groups}
    unrelated = [frozenset(map(int, rng.choice(120, 2, replace=False))) for _ in range(100)]
    assert not together & set(unrelated)
