"""Which photo an id in a CSV means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from posixpath import dirname, normpath, splitext

from mobileclf.errors import DataError

from .index import PHOTO_ENDINGS, part_in
from .listing import escaped, leads_out
from .store import Store
from .tables import is_table, short


@dataclass(kw_only=True)
class Photos:
    """Finds photos by id. inside: the folder of the store to look in, "" for all of it.

    ambiguous: files that fitted an id together with others.
    """

    store: Store
    inside: str = ""
    ambiguous: set[str] = field(default_factory=set)
    _deepest: int | None = None
    _endings: dict[tuple[int, bool, bool], dict[str, list[str]]] = field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """Every file that may be named: no table, and inside of the folder."""
        above = f"{self.inside}/" if self.inside else ""
        for name in self.store.names():
            if name.startswith(above) and not is_table(name):
                yield name

    def find(self, id: str, part: str, where: str) -> tuple[str, str]:
        """(name, "") of the file that `id` names, or ("", problem).

        An id fits a file when it is the end of its path, whole folder and file names, with the
        ending or, for photos, without; only where none fits so, whatever the case of letters.
        Files in a folder named as `part` go before others.
        Raises DataError for an id that is absolute or climbs with `..`.
        """
        text = id.strip().replace("\\", "/")
        if leads_out(text):
            raise DataError(
                f"{where}: wanted the name of a file below {self.store.root}, found "
                f"{short(escaped(id))!r}; take absolute paths and .. out of the CSV"
            )
        if not text.strip("./"):
            return "", "a row without an id"
        text = normpath(text)  # drops ./ and //; there is no .. in it
        # The folder's own name before an id is no part of the names in it.
        texts = dict.fromkeys((text, text.removeprefix(f"{self.store.root.stem}/")))
        for folded in (False, True):
            for wanted in (x.casefold() if folded else x for x in texts):
                for ending in (True, False):
                    hits = self._by_end(wanted.count("/") + 1, ending, folded).get(wanted, [])
                    whole = [hit for hit in hits if hit == wanted]
                    own = [hit for hit in hits if part and _lies_in(hit, part)]
                    hits = whole or own or hits
                    if len(hits) == 1:
                        return hits[0], ""
                    if hits:
                        self.ambiguous.update(hits)
                        return "", _several(hits, folded)
        return "", "a row without a file"

    def _by_end(self, depth: int, ending: bool, folded: bool) -> dict[str, list[str]]:
        """Files by the last `depth` parts of their paths, with or without the file's ending, and
        as they are or whatever the case.

        One for each depth that ids have, and none deeper than the files lie: looking an id up
        never takes a walk over all files.
        """
        if self._deepest is None:
            self._deepest = max((name.count("/") + 1 for name in self.names()), default=0)
        if depth > self._deepest:
            return {}
        key = (depth, ending, folded)
        if key not in self._endings:
            found: dict[str, list[str]] = defaultdict(list)
            for name in self.names():
                parts = name.split("/")
                if len(parts) < depth:
                    continue
                end = "/".join(parts[-depth:])
                if not ending:
                    suffix = splitext(name)[1]
                    if suffix.lower() not in PHOTO_ENDINGS:
                        continue
                    end = end.removesuffix(suffix)
                found[end.casefold() if folded else end].append(name)
            self._endings[key] = found
        return self._endings[key]


def _lies_in(name: str, part: str) -> bool:
    return any(part_in(folder) == part for folder in name.split("/")[:-1])


def _several(hits: list[str], folded: bool) -> str:
    case = " but for the case of letters" if folded else ""
    apart = len({dirname(hit) for hit in hits}) > 1
    advice = "; --images says which folder is meant" if apart else ""
    return f"{len(hits)} files fit this id{case}: {', '.join(hits[:2])}{advice}"
