"""Contact sheets: every file is on it with its reason, whatever it holds and is called."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf.errors import EnvironmentProblem, UsageError
from mobileclf.images import contact_sheet as module
from mobileclf.images import verdict_sheet
from mobileclf.images.contact_sheet import (
    CELL,
    COLUMNS,
    FRAME,
    MARGIN,
    MOST,
    SIDE,
    Tile,
    shown,
    thumbnail,
    write_sheet,
)

BLUE, GREEN, RED, GREY = (0, 0, 200), (0, 160, 0), (204, 0, 0), (204, 204, 204)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (40, 40)) -> bytes:
    return encoded(Image.new("RGB", size, colour))


def near(found: object, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.subtract(found, colour)).max() < 40)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that comes onto a sheet, in order."""
    texts: list[str] = []
    write = module._write

    def record(pen: object, at: object, text: str, *rest: object) -> None:
        texts.append(text)
        write(pen, at, text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_write", record)
    return texts


def tops(sheet: Image.Image) -> list[int]:
    """Where thumbnails begin, by the frames in the first column."""
    column = np.asarray(sheet)[:, MARGIN + 1].astype(int)
    red = (np.abs(column - RED).max(axis=1) < 60).astype(int)
    return [int(y) + 1 for y in np.flatnonzero(np.diff(red) == 1)]


def test_pictures_problems_and_files_without_a_picture(tmp_path: Path) -> None:
    tiles = [
        Tile(name="a.png", picture=thumbnail(plain(BLUE)), problem="too plain"),
        Tile(name="b.png", picture=thumbnail(plain(GREEN))),
        Tile(name="c.png", picture=None, problem="cannot be read"),
        Tile(name="d.png", picture=thumbnail(b"no picture"), problem="not a picture"),
    ]
    write_sheet(tmp_path / "x" / "sheet.jpg", "Class", tiles)
    sheet = Image.open(tmp_path / "x" / "sheet.jpg")
    assert sheet.format == "JPEG" and sheet.width == 2 * MARGIN + COLUMNS * CELL
    top = tops(sheet)[0]
    middle, frame = top + FRAME + SIDE // 2, top + 1
    for i, (inside, framed) in enumerate(
        [(BLUE, True), (GREEN, False), (GREY, True), (GREY, True)]
    ):
        left = MARGIN + i * CELL
        # A quarter in, beside the cross.
        assert near(sheet.getpixel((left + FRAME + SIDE // 4, middle)), inside)
        assert near(sheet.getpixel((left + SIDE // 2, frame)), RED) == framed
    centre = sheet.crop((MARGIN + 2 * CELL + FRAME, top + FRAME, MARGIN + 2 * CELL + SIDE, middle))
    assert centre.convert("L").getextrema()[0] < 130, "no cross"


def test_names_reasons_and_notes_stand_under_the_pictures(
    tmp_path: Path, written: list[str]
) -> None:
    long = "the_first_of_" + "very_" * 30 + "many_0001.jpg"
    reason = "JPEG cut short; take it out or copy it again"
    tiles = [
        Tile(name=long, picture=thumbnail(plain(BLUE))),
        Tile(name="b.jpg", picture=None, problem=reason, notes=("never said",)),
        Tile(name="c.jpg", picture=thumbnail(plain(GREEN)), notes=("grey", "a PNG named .jpg")),
        Tile(name="d.jpg", picture=None, problem="x" * 300),
        Tile(name="e.jpg", picture=None, problem="word " * 100),
    ]
    write_sheet(tmp_path / "sheet.jpg", "The class", tiles)
    assert written[:2] == ["The class", "5 files, 3 left out (red)"]
    assert written[2].startswith("the_") and written[2].endswith("1.jpg") and "..." in written[2]
    text = " ".join(written)
    assert f"b.jpg {reason} c.jpg grey; a PNG named .jpg d.jpg xx" in text
    assert "never said" not in text
    assert written[-1].endswith("...") and text.count("word") < 30
    assert all(module._width(line, module.TEXT_SIZE) <= CELL for line in written[2:])


def test_equal_tiles_give_equal_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a.jpg", "b.jpg"):
        tiles = [Tile(name=f"{i}.png", picture=thumbnail(plain((i * 9, 0, 0)))) for i in range(23)]
        write_sheet(tmp_path / name, "C", tiles)
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]


NAMES = (
    "Amanita d'été", "Мухомор красный", "毒キノコ", "فطر سام", "เห็ด", "मशरूम", "🍄🍄🏽", "e\u0301",
    "", " ", "\u200b", "\u202e txt", "tab\there", "\udcff", "\U0010fffe", "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("fonts", ["of this system", "Pillow's own"])
def test_names_in_any_script(
    tmp_path: Path, fonts: str, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    if fonts == "Pillow's own":
        monkeypatch.setattr(module, "FONTS", ())
    for title in NAMES:
        write_sheet(tmp_path / "s.jpg", title, [Tile(name=title, picture=None, problem=title)])
    for name in NAMES[:8]:
        assert name in written


def test_a_character_that_no_font_has_is_escaped_and_not_a_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FONTS", ("there is no such font.ttf",))
    own = module._font("", 11)
    assert module._font_for("Plain ASCII 1!", 11) == ("Plain ASCII 1!", own)
    assert module._font_for("é毒\n", 11) == (r"\xe9\u6bd2\n", own)
    assert not module._has("", 11, "毒") and module._has("", 11, "a")


def test_a_font_of_the_system_is_taken_where_it_has_the_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    font = module._font("DejaVuSans.ttf", 11)
    if font is None:
        pytest.skip("no DejaVuSans.ttf here")
    monkeypatch.setattr(module, "FONTS", ("none.ttf", "DejaVuSans.ttf"))
    assert module._font_for("Мухомор", 11) == ("Мухомор", font)
    assert module._font_for("e\u0301", 11) == ("é", font)


def test_of_many_files_all_with_a_problem_are_shown_and_others_evenly(
    tmp_path: Path, written: list[str]
) -> None:
    problems = ["" if i % 100 else "bad" for i in range(3000)]
    chosen = shown(problems)
    assert len(chosen) == MOST and chosen == sorted(set(chosen))
    assert {i for i, problem in enumerate(problems) if problem} <= set(chosen)
    gaps = np.diff([i for i in chosen if not problems[i]])
    assert max(gaps) - min(gaps) <= 2 and chosen[-1] > 2900
    assert shown(["bad"] * 1000) == list(range(MOST))
    assert shown(["", "bad", ""]) == [0, 1, 2] and shown([]) == []
    tiles = [Tile(name=f"{i}", picture=None, problem=problems[i]) for i in chosen]
    write_sheet(tmp_path / "s.jpg", "C", tiles, files=3000)
    assert written[1] == f"{MOST} of 3000 files, 30 left out (red)"
    written.clear()
    write_sheet(tmp_path / "s.jpg", "C", [Tile(name=p or "-", picture=None) for p in problems])
    assert written[1] == f"{MOST} of 3000 files, 0 left out (red)"
    write_sheet(tmp_path / "s.jpg", "an empty class", [])


def test_thumbnails_keep_the_aspect_are_upright_and_show_what_is_small() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.new("RGB", (800, 400), BLUE)
    wide.paste(GREEN, (0, 0, 400, 400))
    found = thumbnail(encoded(wide, "JPEG"))
    assert found is not None and found.size == (SIDE, SIDE // 2)
    turned = thumbnail(encoded(wide, "JPEG", exif=exif))
    assert turned is not None and turned.size == (SIDE // 2, SIDE)
    assert near(turned.getpixel((20, 10)), GREEN) and near(turned.getpixel((20, 90)), BLUE)
    dots = Image.new("L", (2, 2))
    dots.putpixel((1, 0), 255)
    large = thumbnail(encoded(dots))
    assert large is not None and large.getpixel((SIDE // 2, SIDE // 2 - 1)) == (255, 255, 255)
    assert large.getpixel((SIDE // 2 - 1, 0)) == (0, 0, 0)
    line = thumbnail(plain(BLUE, (3000, 1)))
    assert line is not None and line.size == (SIDE, 1)


def test_what_is_left_out_for_its_kind_is_seen_and_what_is_broken_is_not() -> None:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}
    deep = Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16))
    assert thumbnail(encoded(Image.new("RGB", (9, 9), BLUE), "GIF", **frames)) is not None
    assert thumbnail(encoded(deep)) is not None
    data = encoded(Image.effect_noise((90, 90), 50), "JPEG")
    for broken in (b"", b"no", data[: len(data) // 2], b"II*\0" + data):
        assert thumbnail(broken) is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write_sheet(tmp_path / "file" / "s.jpg", "C", [])


def row(name: str, verdict: str | None, **more: object) -> dict[str, object]:
    """As `predict` gives it."""
    own = {"path": f"in/{name}", "label": "ant", "score": 0.75, "group_score": 0.875}
    own |= {"verdict": verdict, "abstain": verdict == "not sure", "problem": None}
    return {**own, **more}


AMBER = (199, 119, 0)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG"])
def test_a_verdict_sheet_marks_harmful_not_sure_and_unreadable(
    tmp_path: Path, written: list[str], ending: str
) -> None:
    problem = "in/d.jpg: JPEG cut short; take it out or copy it again"
    rows = [
        row("a.jpg", "bad"),
        row("b.jpg", "good"),
        row("c.jpg", "not sure"),
        row("d.jpg", "no verdict", label=None, score=None, problem=problem),
        row("e.jpg", "bad"),
    ]
    pictures = dict.fromkeys((0, 1, 2), thumbnail(plain(BLUE))) | {3: None, 4: None}
    path = tmp_path / f"sheet{ending}"
    verdict_sheet.write(path, "exported/x", rows, pictures, harmful="bad")
    assert written[:2] == [
        "exported/x",
        "5 images: 2 bad (red), 1 good, 1 not sure (amber), 1 unreadable (crossed out)",
    ]
    text = " ".join(written[2:])
    assert "a.jpg ant 0.750 bad 0.875 b.jpg ant 0.750 good c.jpg" in text
    assert "d.jpg JPEG cut short; take it out or copy it again e.jpg" in text
    sheet = Image.open(path)
    assert sheet.format == ("PNG" if ending == ".png" else "JPEG")
    top = tops(sheet)[0]
    frames = [sheet.getpixel((MARGIN + i * CELL + SIDE // 2, top + 1)) for i in range(5)]
    white = (255, 255, 255)
    for found, wanted in zip(frames, (RED, white, AMBER, white, RED), strict=True):
        assert near(found, wanted)
    for i, crossed in enumerate((False, False, False, True, False)):
        x, y = MARGIN + i * CELL + FRAME + SIDE // 2, top + FRAME + SIDE // 2
        around = [sheet.getpixel((x + k, y)) for k in range(-4, 5)]
        assert any(near(pixel, (102, 102, 102)) for pixel in around) == crossed


def test_a_sheet_of_a_model_without_a_decision_says_so(tmp_path: Path, written: list[str]) -> None:
    rows = [row("a.jpg", None, abstain=None, group_score=None)]
    verdict_sheet.write(tmp_path / "s.png", "x", rows, {0: None}, harmful=None)
    assert written[1] == "1 image: no verdicts: the model comes with no decision"
    assert written[2:] == ["a.jpg", "ant 0.750"]


def test_of_many_images_a_sheet_shows_the_marked_ones_first_and_counts_all(
    tmp_path: Path, written: list[str]
) -> None:
    rows = [row(f"{i}.jpg", "good") for i in range(1250)]
    assert verdict_sheet.shown(rows[:200], "bad") == list(range(200))
    chosen = verdict_sheet.shown(rows, "bad")
    assert len(chosen) == verdict_sheet.MOST and set(np.diff(chosen)) == {6, 7}
    rows[7], rows[11] = row("7.jpg", "bad"), row("11.jpg", "not sure", abstain=True)
    rows[13]["problem"] = "broken"
    chosen = verdict_sheet.shown(rows, "bad")
    assert {7, 11, 13} <= set(chosen) and len(chosen) == verdict_sheet.MOST
    verdict_sheet.write(tmp_path / "s.png", "x", rows, dict.fromkeys(chosen), harmful="bad")
    assert written[1] == (
        "200 of 1250 images, the marked ones first; of all of them: 1247 good, 1 bad (red), "
        "1 not sure (amber), 1 unreadable (crossed out)"
    )


@pytest.mark.parametrize("name", ["sheet", "sheet.gif", "sheet.jpg.csv", "jpg"])
def test_a_sheet_of_another_kind_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match="--sheet .*: wanted a name that ends in .jpg or .png"):
        verdict_sheet.check(Path(name))
