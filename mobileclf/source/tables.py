"""CSV as a stream of lines: bounded memory whatever the file claims to be, errors with a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from mobileclf.errors import DataError
from mobileclf.settings import Settings
from mobileclf.wording import counted

TABLES = (".csv", ".tsv")
PIECE = 1 << 20
LONGEST_LINE = 1 << 20
# A table of file names is held in memory as a whole: about a gigabyte at the most.
LARGEST_TABLE = 1 << 28
MOST_ROWS = 2_000_000
DELIMITERS = ",;\t"
BOMS = (b"\xff\xfe", b"\xfe\xff")
BOM = b"\xef\xbb\xbf"
MOST_SHOWN = 6  # cells in a message, and below the signs of one
LONGEST_SHOWN = 60
# 1.0, and numpy's own 1.000000000000000000e+00.
WHOLE = re.compile(r"(\d+)\.0+|(\d\.\d{18}e\+\d\d)", re.ASCII)
PIXEL_COLUMN = re.compile(r"(pixel|px|p|x|col|c|feature|f|v)?[_ ]?\d+(x\d+)?", re.IGNORECASE)
# The usual names of a column with photos' names.
IMAGE_COLUMNS = frozenset(
    "id image images file files filename path photo picture img image_id imageid image_name "
    "imagename image_path imagepath image_file imagefile image_filename img_id img_name img_path "
    "file_name filepath file_path fname photo_id photo_name id_code".split()
)
# The usual names of a column with what a picture shows.
LABEL_COLUMNS = frozenset(
    "label labels class classname class_name class_label target species category breed".split()
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is wanted of a CSV with a header. where: for messages. columns: all of them, as
    written, spaces around them gone. places: of those that are kept, None for one that is not
    there. rows: (line number, a cell for each of `places`, "" for None), blank lines left out."""

    where: str
    columns: tuple[str, ...]
    places: tuple[int | None, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that a table should have. usual: its names in lower case, spaces and - as _.
    flag: the option that says another. about: what it holds, for messages."""

    usual: frozenset[str]
    flag: str
    about: str


def shown(cells: Sequence[str]) -> str:
    """The first few cells for a message, quoted, and how many there are when not all are shown."""
    first = ", ".join(repr(short(cell)) for cell in cells[:MOST_SHOWN])
    return first if len(cells) <= MOST_SHOWN else f"{first}, … ({len(cells)} in all)"


def short(cell: str) -> str:
    """A cell for a message: a long one is cut."""
    return cell if len(cell) <= LONGEST_SHOWN else f"{cell[:LONGEST_SHOWN]}…"


def is_number(cell: str) -> bool:
    """Whether a cell is a number as CSVs have them."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's own spelling


def whole(cell: str) -> str:
    """The text as it is, but a whole number written with a fraction (1.0, 1.00), or as numpy's
    savetxt does by default, without it. 007 and 1_0 stay: they may be names."""
    found = WHOLE.fullmatch(cell)
    if found is None:
        return cell
    if found[1] is not None:
        return found[1]
    value = float(cell)
    return str(int(value)) if value.is_integer() and value < 1e15 else cell


def are_pixels(columns: Sequence[str]) -> bool:
    """Whether a header, or a first row in its place, looks like a picture's values: the first
    may be its label or its id."""
    return len(columns) > 4 and all(
        PIXEL_COLUMN.fullmatch(column) or is_number(column) for column in columns[1:]
    )


def is_table(name: str) -> bool:
    """Whether a file is taken for a table: by its ending."""
    return name.lower().endswith(TABLES)


def is_submission(name: str) -> bool:
    """Whether a table is the pattern of an answer: its labels are none."""
    return "submission" in name.casefold()


def given_table(settings: Settings) -> str | None:
    """The name of the table that --data itself is, else None."""
    data = settings.data
    return data.name if data is not None and is_table(data.name) and data.is_file() else None


def lines_of(
    stream: BinaryIO, where: str, *, longest: int = LONGEST_LINE, most: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of a text file, read in pieces.

    longest, most: bytes of a line, and of the file. Raises DataError for longer ones and for
    what is no UTF-8 text by its first bytes or a NUL anywhere; at most `longest` and a piece are
    held.
    """
    number, rest, size = 0, b"", 0
    while piece := stream.read(PIECE):
        if not size:
            if piece.startswith(BOMS):
                raise DataError(f"{where}: wanted UTF-8 text, found UTF-16; save it as CSV UTF-8")
            piece = piece.removeprefix(BOM)
        size += len(piece)
        if b"\0" in piece:
            raise DataError(f"{where}: wanted CSV text, found NUL bytes; make the file again")
        if most is not None and size > most:
            raise DataError(f"{where}: wanted a table of at most {most} bytes, found more")
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in whole:
            number += 1
            if len(line) > longest:
                raise DataError(_too_long(where, number, longest))
            yield number, line
        if len(rest) > longest:
            raise DataError(_too_long(where, number + 1, longest))
    if rest:
        yield number + 1, rest.removesuffix(b"\r")


def _too_long(where: str, number: int, longest: int) -> str:
    return f"{where} line {number}: wanted a line of at most {longest} bytes, found a longer one"


def read_table(
    stream: BinaryIO, where: str, choose: Callable[[Sequence[str]], Sequence[int | None]]
) -> Table:
    """Some columns of a CSV with a header; the rest of it is not held.

    choose: the places of the columns that are kept, by the header. Raises DataError for a CSV
    that is empty or too large, and with the line for a row of another length or one that is no
    UTF-8.
    """
    texts = _texts(stream, where)
    above = 0
    first = next(texts, None)
    while first is not None and not first.strip():
        above, first = above + 1, next(texts, None)
    if first is None:
        raise DataError(f"{where}: wanted a CSV with a header, found an empty file")
    mark = sniff(first)
    # A space before a quote shows in the header or the row below it; elsewhere it is kept.
    head = [first, *islice(texts, 1)]
    spaced = any(re.search(f'(^|{mark}) +"', line) for line in head)
    reader = csv.reader(chain(head, texts), delimiter=mark, strict=True, skipinitialspace=spaced)
    rows: list[tuple[int, tuple[str, ...]]] = []
    columns: tuple[str, ...] = ()
    places: tuple[int | None, ...] = ()
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
                while not columns[-1]:
                    columns = columns[:-1]
                places = tuple(choose(columns))
                continue
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(columns):
                wanted = counted(len(columns), "cell")
                raise DataError(
                    f"{where} line {above + reader.line_num}: wanted {wanted} as in the header, "
                    f"found {len(cells)}"
                )
            if len(rows) == MOST_ROWS:
                raise DataError(f"{where}: wanted at most {MOST_ROWS} rows, found more")
            kept = tuple("" if place is None else cells[place] for place in places)
            rows.append((above + reader.line_num, kept))
    except csv.Error as error:
        line = above + reader.line_num
        raise DataError(f"{where} line {line}: not readable as CSV ({error})") from error
    return Table(where=where, columns=columns, places=places, rows=tuple(rows))


def read_header(stream: BinaryIO, where: str, *, longest: int = LONGEST_LINE) -> tuple[str, ...]:
    """The cells of the first line that is not blank. Raises DataError."""
    texts = _texts(stream, where, longest=longest)
    first = next((text for text in texts if text.strip()), None)
    if first is None:
        raise DataError(f"{where}: wanted a CSV with a header, found an empty file")
    cells = next(csv.reader([first], delimiter=sniff(first), skipinitialspace=True))
    return tuple(cell.strip() for cell in cells)


def sniff(header: str) -> str:
    """What stands between the cells: of `,`, `;` and tab the one that is there most often."""
    outside = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=lambda delimiter: (outside.count(delimiter), delimiter == ","))


def named(columns: Sequence[str], name: str) -> list[int]:
    """The places of the columns of that name; where none is written so, whatever the case."""
    return [i for i, column in enumerate(columns) if column == name] or [
        i for i, column in enumerate(columns) if column.casefold() == name.casefold()
    ]


def places_of(columns: Sequence[str], wanted: Column, given: str | None) -> list[int]:
    """The places of the columns that are `given`, else of those with a usual name."""
    if given is not None:
        return named(columns, given)
    lower = [column.casefold().replace(" ", "_").replace("-", "_") for column in columns]
    return [i for i, column in enumerate(lower) if column in wanted.usual]


def place_of(columns: Sequence[str], wanted: Column, given: str | None, where: str) -> int:
    """The place of the one column that is `given`, else of the one with a usual name. Raises
    DataError where there is none, and for two."""
    found = places_of(columns, wanted, given)
    if len(found) == 1:
        return found[0]
    if given is None and not found:
        what, count = f"a column with {wanted.about}", ""
    else:
        what = f"one column {given!r}" if given is not None else f"one column for {wanted.flag}"
        count = f"{len(found) or 'none'} among "
    raise DataError(
        f"{where}: wanted {what}, found {count}{shown(columns)}; say which with {wanted.flag}"
    )


def _texts(stream: BinaryIO, where: str, *, longest: int = LONGEST_LINE) -> Iterator[str]:
    """Lines with their ends, as the csv module wants them."""
    for number, line in lines_of(stream, where, longest=longest, most=LARGEST_TABLE):
        try:
            yield line.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where} line {number}: wanted UTF-8 text, found byte {line[error.start]:#04x}; "
                "save it as CSV UTF-8"
            ) from error
