"""Verdict sheets: pictures on one page with what a model says of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from PIL.Image import Image

from mobileclf.decision import NOT_SURE
from mobileclf.errors import UsageError
from mobileclf.records import Record
from mobileclf.wording import counted

from . import contact_sheet
from .contact_sheet import FAINT, INK, RED, Cell, write_page

MOST = 200  # pictures on a sheet
ENDINGS = (".jpg", ".jpeg", ".png")
AMBER = "#c77700"


def check(sheet: Path | None) -> None:
    """Raises UsageError for a file whose ending is none of a sheet's."""
    if sheet is not None and sheet.suffix.lower() not in ENDINGS:
        raise UsageError(f"--sheet {sheet}: wanted a name that ends in .jpg or .png")


def shown(rows: Sequence[Record], harmful: str | None) -> list[int]:
    """Which rows of `predict` are on the sheet, in order: all, or MOST, and of those first what is
    marked on it."""
    return contact_sheet.shown([_frame(row, harmful) or row["problem"] for row in rows], MOST)


def _frame(row: Record, harmful: str | None) -> str:
    """The colour of its frame, empty for none."""
    if harmful is not None and row["verdict"] == harmful:
        return RED
    return AMBER if row["abstain"] else ""


def write(
    path: Path,
    title: str,
    rows: Sequence[Record],
    thumbnails: Mapping[int, Image | None],
    *,
    harmful: str | None,
) -> None:
    """Write the sheet of rows of `predict`; those with a place in `thumbnails` are on it.

    harmful: the verdict that is framed red. "Not sure" is framed amber, what cannot be read is
    crossed out. Raises EnvironmentProblem where it cannot be written.
    """
    cells = [_cell(rows[i], picture, harmful) for i, picture in thumbnails.items()]
    write_page(path, title, _line(rows, len(cells), harmful), cells)


def _line(rows: Sequence[Record], drawn: int, harmful: str | None) -> str:
    """How many pictures there are of each verdict, of all the rows."""
    marks = {harmful: " (red)", NOT_SURE: " (amber)"} if harmful else {NOT_SURE: " (amber)"}
    counts = Counter(row["verdict"] for row in rows if not row["problem"] and row["verdict"])
    parts = [f"{n} {verdict}{marks.get(verdict, '')}" for verdict, n in counts.most_common()]
    if unread := sum(bool(row["problem"]) for row in rows):
        parts.append(f"{unread} unreadable (crossed out)")
    if not counts:
        parts.append("no verdicts: the model comes with no decision")
    total = counted(len(rows), "image")
    if drawn < len(rows):
        total = f"{drawn} of {total}, the marked ones first; of all of them"
    return f"{total}: {', '.join(parts)}"


def _cell(row: Record, picture: Image | None, harmful: str | None) -> Cell:
    name = PurePath(row["path"]).name
    if row["problem"]:
        reason = row["problem"].removeprefix(f"{row['path']}: ")
        return Cell(name=name, picture=picture, words=((reason, FAINT),), crossed=True)
    said: tuple[tuple[str, str], ...] = ((f"{row['label']} {row['score']:.3f}", INK),)
    if row["verdict"] is None:
        return Cell(name=name, picture=picture, words=said)
    colour = _frame(row, harmful)
    total = f" {row['group_score']:.3f}" if row["verdict"] == harmful else ""
    if row["verdict"] != row["label"]:  # without groups it is the label again
        said += ((f"{row['verdict']}{total}", colour or FAINT),)
    return Cell(name=name, picture=picture, words=said, frame=colour)
