"""Golden cases: every verdict among them, found by painting where drawings do not have it."""

from __future__ import annotations

import hashlib
import io
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf import golden
from mobileclf.decision import NOT_SURE, Abstain, Classes, Decision
from mobileclf.errors import DataError, ProofError
from mobileclf.images.load import ImageSpec, decode, resize

SPEC = ImageSpec(width=8, height=8)
GREY = ImageSpec(width=8, height=8, channels=1)


def judge(
    score, threshold_q, *, groups=("a", "b"), harmful="b", purpose="real", spec=SPEC, rule=None
):
    classes = Classes(labels=("x", "y"), groups=groups, harmful=harmful)
    decision = Decision(
        group=harmful, threshold_q=threshold_q, abstain=rule, kernel_bound=0, purpose=purpose
    )
    return golden.Judge(spec=spec, classes=classes, decision=decision, score=score)


def brightness(photos):
    """A model that calls bright pictures y."""
    y = photos.mean(axis=(1, 2, 3)).astype(np.int64)
    return np.stack([255 - y, y], axis=1)


@pytest.mark.parametrize("threshold_q", [100, 160, 40])
def test_every_verdict_is_among_the_drawn_cases(threshold_q):
    """At 160 and 40 no drawing has one of the two, so it has to be painted."""
    cases = golden.drawn(judge(brightness, threshold_q), seed=0)
    assert len(cases) >= golden.FEWEST
    assert {case.verdict for case in cases} == {"a", "b"}
    assert {case.suffix for case in cases} == {".jpg", ".png"}


def test_a_grey_input_is_hashed_as_the_model_sees_it_and_the_picture_in_colour():
    own = judge(brightness, 160, spec=GREY)
    cases = golden.drawn(own, seed=0)
    assert {case.verdict for case in cases} == {"a", "b"}
    for case in cases:
        image = decode(case.data, SPEC)
        pixels = resize(image, GREY)
        assert pixels.shape == (8, 8, 1)
        assert case.decoded_sha256 == hashlib.sha256(image.tobytes()).hexdigest()
        assert case.input_sha256 == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert case.input_sha256 != judge(brightness, 160).case(case.data, "").input_sha256


def test_cases_of_one_label_rule():
    cases = golden.drawn(judge(brightness, 180, groups=(None, None), harmful=None), seed=0)
    assert {case.verdict for case in cases} == {"x", "y", NOT_SURE}


# No drawing lies in these bands, the first a gap of two quanta: they have to be painted.
NARROW = (
    (40, Abstain(by="score", cut_q=3)),
    (220, Abstain(by="margin", cut_q=5)),
    (160, Abstain(by="largest", cut_q=131)),
)


@pytest.fixture(scope="module")
def few_drawings():
    return list(islice(golden._drawings(0), 8))


@pytest.fixture
def drawings(few_drawings, monkeypatch):
    """A few drawings, made once; several tests want them and no more."""
    monkeypatch.setattr(golden, "_drawings", lambda seed: iter(few_drawings))
    return few_drawings


@pytest.mark.parametrize(("threshold_q", "rule"), NARROW)
def test_what_is_not_sure_by_a_rule_is_painted(drawings, threshold_q, rule):
    own = judge(brightness, threshold_q, rule=rule)
    assert NOT_SURE not in [own.case(*drawing).verdict for drawing in drawings]
    cases = golden.drawn(own, seed=0)
    assert {case.verdict for case in cases} == {"a", "b", NOT_SURE}
    for case in cases:
        assert own.case(case.data, case.suffix) == case


@pytest.mark.parametrize(
    ("threshold_q", "rule", "band"),
    [
        (40, Abstain(by="score", cut_q=3), range(38, 40)),
        (220, Abstain(by="margin", cut_q=5), range(126, 130)),
        (160, Abstain(by="largest", cut_q=131), range(125, 131)),
    ],
)
def test_a_picture_is_nearer_the_closer_it_is_to_the_band(threshold_q, rule, band):
    """The search is led from both sides, not left to luck."""
    own = judge(brightness, threshold_q, rule=rule)
    for verdict, wanted in ((NOT_SURE, band), ("a", range(band.start)), ("b", [255])):
        near = [golden._nearness(own, np.array([[255 - y, y]]), verdict) for y in range(256)]
        assert set(np.flatnonzero(np.array(near) == max(near))) <= set(wanted), verdict
        if verdict == NOT_SURE:
            assert near == sorted(near[: band.stop]) + sorted(near[band.stop :], reverse=True)
            assert near[band.start - 1] < near[band.start] > near[band.stop]


def few_tries(monkeypatch):
    for name in ("LONG_SEARCH", "SHORT_SEARCH", "SHORT_SEARCHES"):
        monkeypatch.setattr(golden, name, 4)


def surely(photos):
    """A model that is sure of each picture: a dark one is x, any other y."""
    y = np.where(photos.mean(axis=(1, 2, 3)) < 128, 0, 255)
    return np.stack([255 - y, y], axis=1)


def test_a_bundle_may_do_without_a_not_sure_picture_and_that_is_said(drawings, monkeypatch, capsys):
    few_tries(monkeypatch)
    own = judge(surely, 100, rule=Abstain(by="margin", cut_q=5))
    cases = golden.drawn(own, seed=0)
    assert {case.verdict for case in cases} == {"a", "b"} and len(cases) >= golden.FEWEST
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "warning: bundle: wanted a golden picture with the verdict 'not sure', found none" in said
    )
    # Nothing else may be lacking: neither the demo's "not sure", nor that of a minimum.
    never = judge(lambda photos: np.array([[9, 200]] * len(photos)), 100, purpose="demo")
    lone = judge(lambda photos: np.array([[9, 200]] * len(photos)), 100, groups=(None, None),
                 harmful=None)  # fmt: skip
    for refused in (never, lone):
        with pytest.raises(ProofError, match="verdict '(not sure|x)', found none"):
            golden.drawn(refused, seed=0)


def test_a_users_photos_may_do_without_a_not_sure_one_too(tmp_path, capsys):
    folder = photos_in(tmp_path / "own", [1, 2, 210, 220, 230])
    rule = Abstain(by="score", cut_q=20)
    cases = golden.from_photos(judge(brightness, 200, rule=rule), folder)
    assert {case.verdict for case in cases} == {"a", "b"}
    assert "the verdict 'not sure', found none among 5; add one" in " ".join(
        capsys.readouterr().err.split()
    )
    picture = Image.new("RGB", (20, 10), (190, 190, 190))
    picture.save(folder / "9.png")
    cases = golden.from_photos(judge(brightness, 200, rule=rule), folder)
    assert {case.verdict for case in cases} == {"a", "b", NOT_SURE}
    assert not capsys.readouterr().err.count("not sure")


def test_a_case_is_what_its_picture_gives():
    own = judge(brightness, 100)
    for case in golden.drawn(own, seed=0):
        again = own.case(case.data, case.suffix)
        assert again == case
        image = Image.open(io.BytesIO(case.data))
        assert image.format == {".jpg": "JPEG", ".png": "PNG"}[case.suffix]


def test_a_turned_picture_is_among_the_drawings_and_matters():
    turned = [
        data
        for data, suffix in golden._drawings(0)
        if Image.open(io.BytesIO(data)).getexif().get(golden.ORIENTATION) == 6
    ]
    assert turned
    case = judge(brightness, 100).case(turned[0], ".jpg")
    lying = Image.open(io.BytesIO(turned[0])).convert("RGB").tobytes()
    assert case.decoded_sha256 != hashlib.sha256(lying).hexdigest()


def test_a_verdict_that_cannot_be_had_is_refused(monkeypatch):
    few_tries(monkeypatch)
    never = judge(lambda photos: np.array([[200, 10]] * len(photos)), 100)
    with pytest.raises(
        ProofError, match="verdict 'b', found none in 40 tries; give a folder or zip"
    ):
        golden.drawn(never, seed=0)


def photos_in(folder, values):
    folder.mkdir()
    for i, value in enumerate(values):
        exif = Image.Exif()
        exif[golden.ORIENTATION] = 6
        exif[0x010E] = "where I was"
        picture = Image.new("RGB", (20, 10), (value, value, value))
        picture.save(folder / f"{i}.{'jpg' if i % 2 else 'png'}", exif=exif)
    return folder


def test_a_users_photos_are_stripped_of_all_but_orientation(tmp_path):
    cases = golden.from_photos(
        judge(brightness, 100), photos_in(tmp_path / "own", [20, 30, 200, 210, 220])
    )
    assert {case.verdict for case in cases} == {"a", "b"}
    for case in cases:
        assert b"where I was" not in case.data
        exif = Image.open(io.BytesIO(case.data)).getexif()
        assert set(exif) <= {golden.ORIENTATION}
        turned = case.suffix == ".png" or exif.get(golden.ORIENTATION) == 6
        assert turned


def test_a_users_photos_without_a_verdict_are_refused(tmp_path):
    with pytest.raises(DataError, match="wanted a picture with the verdict 'b', found none among"):
        golden.from_photos(judge(brightness, 100), photos_in(tmp_path / "own", [1, 2, 3, 4, 5]))


def test_a_users_zip_serves_as_a_folder_does(tmp_path):
    folder = photos_in(tmp_path / "own", [20, 30, 200, 210, 220])
    path = shutil.make_archive(str(tmp_path / "own"), "zip", folder)
    assert golden.from_photos(judge(brightness, 100), Path(path)) == golden.from_photos(
        judge(brightness, 100), folder
    )
