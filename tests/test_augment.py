"""Augmentation: what each one does, once, and the same for a seed whatever the order."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from mobileclf.images import augment
from mobileclf.images.augment import as_record, augmented_batch
from mobileclf.spelling import AUGMENTATIONS, augmentations_of

ALL = "flip,vertical-flip,rotate=30,zoom=0.2,shear=10,translate=0.1,brightness=0.2,contrast=0.3"


def picture(height=20, width=24, channels=3):
    shape = (height, width, channels)
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def once(photo, text, content=0, round=0, seed=0):
    """One photo by itself, as a round shows it."""
    wanted, own = augmentations_of(text), np.array([content], np.uint64)
    return augmented_batch(photo[None], wanted, seed=seed, content=own, round=round)[0]


def mapped(photo, matrix, shift):
    return augment._mapped(photo[None], matrix[None], shift[None])[0]


def numbers(count, seed=0):
    """Numbers such as photos have as their content."""
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def smooth(height=40, width=40):
    """A bright spot left of and above the centre, float to uint8, that survives resampling."""
    y, x = np.mgrid[:height, :width]
    spot = np.exp(-((x - width * 0.35) ** 2 + (y - height * 0.4) ** 2) / 30)
    return (20 + 200 * spot).astype(np.uint8)[..., None]


def centre_of(photo):
    """Centre of mass (x, y) above the background, from the picture's centre, in pixels."""
    weight = photo[..., 0].astype(float) - 20
    weight[weight < 4] = 0
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    middle = (np.array(photo.shape[1::-1]) - 1) / 2
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() - middle


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_asked_for_returns_the_pixels_bit_for_bit(channels):
    photo = picture(channels=channels)
    np.testing.assert_array_equal(once(photo, "none"), photo)
    np.testing.assert_array_equal(
        augmented_batch(photo[None], (), seed=3, content=numbers(1), round=5), photo[None]
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [ALL, *(part for part in ALL.split(","))])
def test_shape_and_type_are_kept_and_something_happens(text, channels):
    photo = picture(channels=channels)
    shown = [once(photo, text, round=round) for round in range(4)]
    assert all(s.shape == photo.shape and s.dtype == np.uint8 for s in shown)
    assert any(not np.array_equal(s, photo) for s in shown)


def test_every_name_is_known_here():
    assert {name for name, _ in augmentations_of(ALL)} == set(AUGMENTATIONS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 24), (90, 70)])  # many in a piece, and pieces of one
def test_the_same_for_a_seed_a_photo_and_a_round_whatever_the_batch(channels, size):
    photos = np.stack([np.roll(picture(*size, channels), i, axis=1) for i in range(9)])
    wanted, content, rounds = augmentations_of(ALL), numbers(9), np.array([2, 0, 5] * 3)
    whole = augmented_batch(photos, wanted, seed=1, content=content, round=rounds)
    assert whole.shape == photos.shape and whole.flags.c_contiguous
    order = [4, 1, 8, 5]
    some = augmented_batch(
        photos[order], wanted, seed=1, content=content[order], round=rounds[order]
    )
    np.testing.assert_array_equal(some, whole[order])
    for i in range(9):
        alone = once(photos[i], ALL, content[i], int(rounds[i]), seed=1)
        np.testing.assert_array_equal(alone, whole[i])


def test_the_photos_given_stay_as_they_were():
    photos = np.stack([picture(), picture()])
    before = photos.copy()
    shown = augmented_batch(photos, augmentations_of(ALL), seed=0, content=numbers(2), round=1)
    np.testing.assert_array_equal(photos, before)
    assert not np.shares_memory(shown, photos)
    view = np.broadcast_to(picture(), (3, 20, 24, 3))  # one that cannot be written to
    augmented_batch(view, augmentations_of("flip"), seed=0, content=numbers(3), round=1)


def test_pieces_of_any_size_give_the_same(monkeypatch):
    photos = np.stack([np.roll(picture(), i, axis=1) for i in range(5)])
    given = {"seed": 1, "content": numbers(5), "round": 3}
    wanted = augmented_batch(photos, augmentations_of(ALL), **given)
    for pixels in (1, 24 * 7, 24 * 20, 24 * 33, 10**6):
        monkeypatch.setattr(augment, "_AT_ONCE", pixels)
        found = augmented_batch(photos, augmentations_of(ALL), **given)
        np.testing.assert_array_equal(found, wanted)


def test_pieces_are_small_and_together_everything():
    photos = np.zeros((7, 100, 90, 3), np.uint8)
    pieces = list(augment._pieces(photos))
    assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(700))
    assert len(pieces) == 4 and max(p.stop - p.start for p in pieces) * 90 <= augment._AT_ONCE


def test_little_memory_is_needed_beside_the_photos():
    photos = np.zeros((40, 100, 100, 3), np.uint8)
    given = {"seed": 1, "content": numbers(40), "round": 3}
    tracemalloc.start()
    augmented_batch(photos, augmentations_of(ALL), **given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * photos.nbytes + 80 * augment._AT_ONCE


def drawn(*, seed=0, content=0, round=0):
    """The eight amounts of each of many photos or rounds, (n, 8) in +-1."""
    words = (np.asarray(word, np.uint64)[..., None] for word in (content, round))
    return augment._uniform(augment._hash(seed, *words, augment._AMOUNTS))


def test_the_mixing_is_that_of_splitmix64():
    """First numbers for seed 1234567, as Rosetta Code prints them."""
    state, found = np.array([1234567], np.uint64), []
    for _ in range(3):
        found.append(int(augment._mixed(state)[0]))
        state = state + augment._STEP
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(
    "given",
    [
        {"content": numbers(5000)},
        {"content": np.arange(5000)},  # neighbours are as far apart as any
        {"content": numbers(1), "round": np.arange(5000)},
    ],
)
def test_amounts_are_uniform_and_independent(given):
    amounts = drawn(**given)
    assert amounts.shape == (5000, 8) and -1 <= amounts.min() and amounts.max() < 1
    for column in amounts.T:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    # Of 5000 pairs of independent numbers, 0.06 is four standard deviations.
    between_uses = np.corrcoef(amounts.T) - np.eye(8)
    assert np.abs(between_uses).max() < 0.06
    for column in amounts.T:  # one photo or round and the next
        assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 0.06


@pytest.mark.parametrize("other", [{"seed": 1}, {"round": 1}, {"seed": 2**63}, {"seed": 2**64 - 1}])
def test_amounts_of_another_seed_or_round_are_independent(other):
    content = numbers(5000)
    first, second = drawn(content=content), drawn(content=content, **other)
    for use in range(8):
        assert abs(np.corrcoef(first[:, use], second[:, use])[0, 1]) < 0.06
    cells = np.histogram2d(first[:, 0], second[:, 0], bins=5)[0].ravel()
    assert stats.chisquare(cells).pvalue > 1e-3


def test_which_orientation_comes_first_is_a_coin_for_each_photo():
    content, none = numbers(4000), np.zeros(4000, np.int64)
    both = augment._orientation({"flip": 0, "vertical-flip": 0}, 0, content, none)
    for one in both:
        assert abs(one.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(*both)[0, 1]) < 0.06


@pytest.mark.parametrize("other", [{"seed": 1}, {"content": 1}, {"round": 1}])
def test_another_seed_photo_or_round_shows_something_else(other):
    photo = picture()
    assert not np.array_equal(once(photo, "rotate=20", **other), once(photo, "rotate=20"))


def test_an_augmentation_more_leaves_the_others_as_they_were():
    photo = smooth()
    alone = centre_of(once(photo, "translate=0.1"))
    beside = centre_of(once(photo, "translate=0.1,contrast=0.01"))
    np.testing.assert_allclose(alone, beside, atol=0.3)


@pytest.mark.parametrize("text, axis", [("flip", 1), ("vertical-flip", 0)])
def test_two_rounds_of_a_flip_are_the_photo_and_its_mirror_image(text, axis):
    photo, firsts = picture(), set()
    mirror = np.flip(photo, axis)
    for index in range(20):
        for round in range(3):
            pair = [once(photo, text, content=index, round=r) for r in (round, round + 1)]
            straight = [np.array_equal(p, photo) for p in pair]
            assert sorted(straight) == [False, True]
            np.testing.assert_array_equal(pair[straight.index(False)], mirror)
        firsts.add(np.array_equal(once(photo, text, content=index), photo))
    assert firsts == {True, False}  # which comes first is the photo's own


def test_four_rounds_of_both_flips_show_all_four_orientations():
    photo = picture()
    for index in range(8):
        seen = {once(photo, "flip,vertical-flip", index, r).tobytes() for r in range(4)}
        wanted = {p.tobytes() for p in (photo, photo[:, ::-1], photo[::-1], photo[::-1, ::-1])}
        assert seen == wanted
        first, second = (once(photo, "flip,vertical-flip", index, r) for r in range(2))
        np.testing.assert_array_equal(second, first[::-1, ::-1])


def test_translation_is_a_share_of_width_and_of_height():
    photo = smooth(height=30, width=60)
    at = centre_of(photo)
    moves = [centre_of(once(photo, "translate=0.15", content=i)) - at for i in range(100)]
    np.testing.assert_allclose(np.abs(moves).max(axis=0), [9, 4.5], atol=0.5)


def test_translation_is_a_share_of_the_size_and_uniform():
    photo = smooth()
    at = centre_of(photo)
    moves = np.array([centre_of(once(photo, "translate=0.2", content=i)) - at for i in range(200)])
    assert np.abs(moves).max() <= 0.2 * 40 + 0.2
    # A uniform value in +-8 has a standard deviation of 4.6.
    np.testing.assert_allclose(moves.std(axis=0), 8 / np.sqrt(3), atol=0.6)
    assert np.all(np.abs(moves.mean(axis=0)) < 1)


def test_rotation_keeps_the_distance_and_turns_by_degrees():
    photo = smooth()
    at = centre_of(photo)
    angles = []
    for index in range(100):
        x, y = centre_of(once(photo, "rotate=40", content=index))
        assert np.hypot(x, y) == pytest.approx(np.hypot(*at), abs=0.3)
        angle = np.degrees(np.arctan2(y, x) - np.arctan2(at[1], at[0]))
        angles.append((angle + 180) % 360 - 180)
    assert 34 < np.abs(angles).max() <= 42
    assert abs(np.mean(angles)) < 6


def test_zoom_has_a_factor_for_each_axis():
    photo = smooth()
    at = centre_of(photo)
    factors = np.array([at / centre_of(once(photo, "zoom=0.3", content=i)) for i in range(100)])
    assert factors.min() > 0.67 and factors.max() < 1.33
    assert factors.min() < 0.75 and factors.max() > 1.25
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.3


def test_shear_moves_rows_sideways_by_their_distance_from_the_centre():
    photo = smooth()
    at = centre_of(photo)
    moves = np.array([centre_of(once(photo, "shear=30", content=i)) - at for i in range(100)])
    np.testing.assert_allclose(moves[:, 1], 0, atol=0.3)
    most = abs(np.tan(np.radians(30)) * at[1])
    assert 0.8 * most < np.abs(moves[:, 0]).max() <= most + 0.2


def test_the_map_is_bilinear_against_a_slow_one():
    photo = picture(9, 11)
    matrix, shift = np.array([[0.9, 0.3], [-0.2, 1.1]]), np.array([1.3, -0.6])
    wanted = np.empty(photo.shape)
    for row in range(9):
        for column in range(11):
            x, y = matrix @ np.array([column - 5, row - 4]) + shift + np.array([5, 4])
            x, y = min(max(x, 0), 10), min(max(y, 0), 8)
            x0, y0 = min(int(x), 9), min(int(y), 7)
            for (dx, dy), share in {
                (0, 0): (1 - x + x0) * (1 - y + y0), (1, 0): (x - x0) * (1 - y + y0),
                (0, 1): (1 - x + x0) * (y - y0), (1, 1): (x - x0) * (y - y0),
            }.items():  # fmt: skip
                value = share * photo[y0 + dy, x0 + dx]
                wanted[row, column] = value if (dx, dy) == (0, 0) else wanted[row, column] + value
    got = mapped(photo, matrix, shift)
    assert np.abs(got - wanted).max() <= 0.501


def test_pixels_that_are_not_moved_stay_and_edges_are_repeated_outside():
    photo = picture()
    same = mapped(photo, np.eye(2), np.zeros(2))
    np.testing.assert_array_equal(same, photo)
    moved = mapped(photo, np.eye(2), np.array([5.0, 0.0]))
    np.testing.assert_array_equal(moved[:, :-5], photo[:, 5:])
    np.testing.assert_array_equal(moved[:, -5:], np.repeat(photo[:, -1:], 5, axis=1))
    grey = np.full((16, 16, 1), 77, np.uint8)
    np.testing.assert_array_equal(once(grey, "rotate=90,zoom=0.9,translate=0.9"), grey)


def test_brightness_adds_a_share_of_255_and_is_cut_at_the_ends():
    grey = np.full((4, 4, 3), 128, np.uint8)
    levels = (
        np.array([once(grey, "brightness=0.2", content=i)[0, 0, 0] for i in range(200)]) - 128.0
    )
    assert 45 < levels.max() <= 51 and -51 <= levels.min() < -45
    white = np.full((4, 4, 3), 250, np.uint8)
    assert max(once(white, "brightness=1", content=i).max() for i in range(5)) == 255


def test_contrast_is_a_factor_on_the_distance_from_the_mean():
    photo = np.array([90, 110], np.uint8).repeat(8).reshape(4, 4, 1)
    spans = [np.ptp(once(photo, "contrast=0.5", content=i).astype(float)) for i in range(200)]
    assert 10 <= min(spans) < 12 and 28 < max(spans) <= 30
    means = [once(photo, "contrast=0.5", content=i).mean() for i in range(20)]
    np.testing.assert_allclose(means, 100, atol=0.6)


def test_light_is_rounded_to_the_nearest_against_a_slow_one():
    photos = np.stack([picture(), picture() // 3])
    light, contrast = np.array([7.3, -90.6]), np.array([0.83, 1.4])
    shown = augment._lit(photos, light, contrast)
    for i, photo in enumerate(photos.astype(float)):
        wanted = ((photo - photo.mean()) * contrast[i] + photo.mean() + light[i]).clip(0, 255)
        assert np.abs(shown[i] - wanted).max() <= 0.501


def test_the_record_names_value_and_unit():
    assert as_record(augmentations_of("flip,rotate=15,zoom=0.2")) == [
        {"name": "flip", "value": None, "unit": None},
        {"name": "rotate", "value": 15.0, "unit": "degrees"},
        {"name": "zoom", "value": 0.2, "unit": "of the size"},
    ]
    assert as_record(()) == []
