"""Rows of numbers from a CSV, read in pieces; the labels that belong to them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError

from .listing import reading
from .store import Store
from .tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    LARGEST_TABLE,
    is_number,
    lines_of,
    short,
    shown,
    sniff,
    whole,
)

PIECE_VALUES = 4_000_000  # numbers that are held at once, as float64
BYTES_PER_VALUE = 32  # of text, at most: numpy writes 25 at its longest
LONGEST_LINE = 64 << 20  # where no shape says how many values a row has
# Columns that say which picture a row is of; pandas writes the first and reads it as the second.
ID_COLUMNS = IMAGE_COLUMNS | {"", "unnamed: 0", "index", "idx", "row", "no", "nr", "number"}
LABELS_LINE = 1 << 16  # bytes: csv takes no longer cell than twice that
SEPARATORS = "\t;, "  # the first that a line has; a decimal comma is then seen as no number


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of one file: line numbers, labels or ids ("" where another file has them), values as
    float64 (n, width)."""

    lines: Sequence[int]
    labels: Sequence[str]
    values: NDArray[np.float64]


@dataclass(kw_only=True)
class Reader:
    """Reads one file of pictures in pieces, as often as asked.

    labels_first: the first value of a row is its label, or its id. shape: (height, width,
    channels); None until the first row tells.
    """

    store: Store
    name: str
    labels_first: bool
    shape: tuple[int, int, int] | None

    @property
    def where(self) -> str:
        """The file, for messages."""
        return str(self.store.root / self.name)

    def pieces(self) -> Iterator[Rows]:
        """Rows, a few hundred at once. Raises DataError with the line of one that does not fit."""
        longest = LONGEST_LINE
        if self.shape is not None:
            longest = BYTES_PER_VALUE * prod(self.shape) + 4096
        with reading(self.where), self.store.open(self.name) as file:
            lines: list[int] = []
            labels: list[str] = []
            texts: list[str] = []
            separator: str | None = None
            for number, text in _texts(file, self.where, longest):
                if separator is None:
                    separator = next((mark for mark in SEPARATORS if mark in text), ",")
                    if _is_header(text.split(separator), labels_first=self.labels_first):
                        continue
                label, text = _split_label(text, separator) if self.labels_first else ("", text)
                width = len(text.split()) if separator == " " else text.count(separator) + 1
                self._check_width(width, number)
                lines.append(number)
                labels.append(label)
                texts.append(text)
                if len(texts) * width >= PIECE_VALUES:
                    yield self._parsed(lines, labels, texts, separator)
                    lines, labels, texts = [], [], []
            if texts and separator is not None:
                yield self._parsed(lines, labels, texts, separator)

    def _check_width(self, width: int, line: int) -> None:
        if self.shape is None:
            self.shape = square_shape(width)
        if self.shape is None:
            raise DataError(
                f"{self.where} line {line}: {width} values are no square picture with 1 or 3 "
                "channels; say height,width,channels with --shape"
            )
        if width != prod(self.shape):
            raise DataError(
                f"{self.where} line {line}: wanted {prod(self.shape)} values for the shape "
                f"{','.join(map(str, self.shape))}, found {width}"
            )

    def _parsed(
        self, lines: list[int], labels: list[str], texts: list[str], separator: str
    ) -> Rows:
        def numbers(rows: list[str]) -> NDArray[np.float64]:
            delimiter = None if separator == " " else separator
            return np.loadtxt(rows, delimiter=delimiter, ndmin=2, comments=None, quotechar='"')

        try:
            values = numbers(texts)
        except ValueError:
            for line, text in zip(lines, texts, strict=True):
                try:
                    numbers([text])
                except ValueError as error:
                    reason = str(error).split(" at row")[0]
                    raise DataError(
                        f"{self.where} line {line}: wanted numbers, found one that is none "
                        f"({reason})"
                    ) from error
            raise
        sound = (values >= 0) & (values <= 255)  # not so for nan
        if not sound.all():
            row, column = np.argwhere(~sound)[0]
            raise DataError(
                f"{self.where} line {lines[row]}: wanted values 0..255 or 0..1, found "
                f"{values[row, column]:g}"
            )
        return Rows(lines=lines, labels=labels, values=values)


def square_shape(count: int) -> tuple[int, int, int] | None:
    """(side, side, channels) of `count` values, or None. No count fits both 1 and 3 channels."""
    for channels in (1, 3):
        side = isqrt(count // channels)
        if count and side * side * channels == count:
            return side, side, channels
    return None


def _is_header(cells: Sequence[str], *, labels_first: bool) -> bool:
    """Whether cells name columns: most are no numbers, or they count the columns. The first of
    labels_first is no pixel: it may name the labels, or be left out of the counting."""
    if 2 * sum(not is_number(_unquoted(cell)) for cell in cells) > len(cells):
        return True
    first = _unquoted(cells[0])
    if labels_first and first.casefold() in LABEL_COLUMNS:
        return True
    counted = cells[1:] if labels_first and not is_number(first) else cells
    return len(counted) > 3 and all(_unquoted(x) == str(i) for i, x in enumerate(counted))


def _unquoted(cell: str) -> str:
    return cell.strip().strip('"').strip()


def _split_label(text: str, separator: str) -> tuple[str, str]:
    label, _, rest = text.partition(separator)
    return _unquoted(label), rest


def find_scale(reader: Reader) -> float:
    """What the values of a file have to be multiplied with: 255 where none is above 1, else 1.

    A file of 0..255 tells by its first row, mostly; only one of 0..1 is read to its end.
    """
    above = any((rows.values > 1).any() for rows in reader.pieces())
    return 1.0 if above else 255.0


def as_pixels(rows: Rows, scale: float, reader: Reader) -> NDArray[np.uint8]:
    """uint8 (n, height, width, channels). Raises DataError for a row of another scale."""
    values = rows.values
    if scale == 1:
        other = (values.max(axis=1) <= 1) & (values % 1 != 0).any(axis=1)
        if other.any():
            raise DataError(
                f"{reader.where} line {rows.lines[int(other.argmax())]}: all values from 0 to 1, "
                "while other rows go up to 255; wanted one scale for the file"
            )
    assert reader.shape is not None
    return np.rint(values * scale).astype(np.uint8).reshape(-1, *reader.shape)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A file of labels. rows: (label, where) of each, labels as `whole` writes them. ids: by
    column what may say which picture a row is of, as written but for `whole`."""

    where: str
    rows: Sequence[tuple[str, str]]
    ids: Mapping[str, Sequence[str]]

    def check_order(self) -> None:
        """Raises DataError unless ids, if any, count the rows: only then is a row's place that
        of its picture."""
        for column, ids in self.ids.items():
            counts = [[str(start + i) for i in range(len(ids))] for start in (0, 1)]
            if list(ids) in counts:
                continue
            start = 1 if ids[0] == "1" else 0
            i = next(i for i, id in enumerate(ids) if id != counts[start][i])
            raise DataError(
                f"{self.rows[i][1]}: wanted the id {counts[start][i]} in column {column!r}, as "
                f"labels belong to pictures row by row, found {short(ids[i])!r}; sort the rows "
                "and take that column out, or put the same column first in the file of pictures"
            )

    def by_id(self, column: str) -> dict[str, tuple[str, str]]:
        """(label, where) by id. Raises DataError for an id that is there twice."""
        found: dict[str, tuple[str, str]] = {}
        for id, row in zip(self.ids[column], self.rows, strict=True):
            if found.setdefault(id, row) is not row:
                raise DataError(
                    f"{row[1]}: {column} {short(id)!r} is there already ({found[id][1]}); wanted "
                    "each once"
                )
        return found


def read_labels(store: Store, name: str) -> Labels:
    """The labels in a file. Raises DataError."""
    where = str(store.root / name)
    with reading(where), store.open(name) as file:
        texts = list(_texts(file, where, LABELS_LINE, most=LARGEST_TABLE))
    if not texts:
        raise DataError(f"{where}: wanted a label for each row of pixels, found an empty file")
    separator = sniff(texts[0][1])
    rows = [(number, _cells(text, separator)) for number, text in texts]
    header, width = rows[0][1], len(rows[0][1])
    columns = [i for i, cell in enumerate(header) if cell.casefold() in LABEL_COLUMNS]
    place = columns[0] if len(columns) == 1 else 0
    if columns:
        rows = rows[1:]
    elif width == 1 and not is_number(header[0]) and all(is_number(r[0]) for _, r in rows[1:]):
        rows = rows[1:]  # a header of another name over numbers
    if len(columns) > 1 or (width > 1 and not columns):
        raise DataError(
            f"{where}: wanted one column of labels, found {width}; leave only that one, or head "
            "it label"
        )
    if width == 1 and header[0].casefold() in ID_COLUMNS:
        raise DataError(f"{where}: wanted a column of labels, found only ids, {header[0]!r}")
    labels = []
    for number, cells in rows:
        if len(cells) != width or not cells[place]:
            raise DataError(f"{where} line {number}: wanted a label, found {shown(cells)}")
        labels.append((whole(cells[place]), f"{where} line {number}"))
    ids = {}
    for i, column in enumerate(header) if columns else ():
        cells = [whole(row[i]) for _, row in rows]
        if i != place and cells and (column.casefold() in ID_COLUMNS or _may_be_ids(cells)):
            ids[column] = cells
    return Labels(where=where, rows=labels, ids=ids)


def _cells(text: str, separator: str) -> list[str]:
    row = next(csv.reader([text], delimiter=separator, skipinitialspace=True))
    return [cell.strip() for cell in row]


def _may_be_ids(cells: Sequence[str]) -> bool:
    """Whether cells tell rows apart: no two are the same, and none is a measured value."""
    apart = len(set(cells)) == len(cells) > 2
    return apart and all(cell.isdigit() or not is_number(cell) for cell in cells)


def _texts(
    file: BinaryIO, where: str, longest: int, *, most: int | None = None
) -> Iterator[tuple[int, str]]:
    """Line numbers and lines that are not blank."""
    for number, line in lines_of(file, where, longest=longest, most=most):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(f"{where} line {number}: wanted numbers in UTF-8 text") from error
        if text:
            yield number, text
