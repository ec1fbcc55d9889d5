"""The forms that data come in: which one it is, and its index.

class-folders: a folder of photos for each class. csv: a table of file names and labels, and the
photos. pixel-csv: pictures as rows of numbers. Each as a folder or a zip of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclf.errors import DataError, UsageError
from mobileclf.recipes import RECIPES
from mobileclf.records import sha256_file, sha256_json
from mobileclf.settings import Settings, option_name
from mobileclf.wording import counted

from . import class_folders, image_csv, pixel_csv
from .groups import CLASSES_FILE, check_groups_file
from .index import Index
from .listing import reading
from .store import FolderStore, Store, open_store
from .tables import given_table, is_table, named, shown


@dataclass(frozen=True, kw_only=True)
class Form:
    """about: what it is, for messages. settings: those of OF_FORMS that it uses. recognised:
    cheaply, by names and headers. possible: as cheaply, whether it may be that where it is said
    to be. columns: those that --group-by may name. read: the index, and the store that its paths
    lie in; it may write into the run folder."""

    about: str
    settings: tuple[str, ...]
    recognised: Callable[[Store, Settings], bool]
    possible: Callable[[Store, Settings], bool]
    columns: Callable[[Store, Settings], Sequence[str]]
    read: Callable[[Store, Settings, Path], tuple[Index, Store]]


def _no_columns(store: Store, settings: Settings) -> Sequence[str]:
    return ()


# In the order of recognition: what says most by its names comes first.
FORMS: Mapping[str, Form] = {
    pixel_csv.FORM: Form(
        about="pictures as rows of numbers (input.csv and labels.csv)",
        settings=("shape", "classes"),
        recognised=pixel_csv.recognised,
        possible=pixel_csv.possible,
        columns=_no_columns,
        read=pixel_csv.read,
    ),
    image_csv.FORM: Form(
        about="a CSV of file names and labels beside the photos (train.csv)",
        settings=("images", "image_column", "label_column", "classes"),
        recognised=image_csv.recognised,
        possible=lambda store, settings: any(map(is_table, store.top_names())),
        columns=image_csv.columns_of,
        read=image_csv.read,
    ),
    class_folders.FORM: Form(
        about="a folder of photos for each class",
        settings=(),
        recognised=class_folders.recognised,
        possible=class_folders.recognised,
        columns=_no_columns,
        read=class_folders.read,
    ),
}
# What some forms use and others do not.
OF_FORMS = tuple(dict.fromkeys(name for form in FORMS.values() for name in form.settings))


def check_source(settings: Settings) -> None:
    """Raises DataError where --data, --images or --groups name nothing that can be read or the
    data have no form, and UsageError for an option that the form does not use or a --group-by
    that is nothing; before anything is made for them."""
    data = _data(settings)
    found = "a file" if data.is_file() else "something else" if data.exists() else "nothing"
    if not data.is_dir() and not (
        found == "a file" and (is_table(data.name) or data.suffix.lower() == ".zip")
    ):
        raise DataError(
            f"--data {data}: wanted a folder, a .zip of it or a .csv, found {found}; check the path"
        )
    if not data.is_dir() and not given_table(settings):
        open_store(data)  # a broken or hostile zip is refused as a whole, and that is found here
    images = settings.images
    beside = data if data.is_dir() else data.parent
    inside_zip = data.suffix.lower() == ".zip"
    if images is not None and not (inside_zip or images.exists() or (beside / images).exists()):
        raise DataError(
            f"--images {images}: wanted a folder or a .zip of photos, found nothing; check the path"
        )
    if settings.groups is not None:
        check_groups_file(settings.groups)
    if given_table(settings) and settings.form == class_folders.FORM:
        raise UsageError(f"--form {settings.form}: --data {data} is a table, not a folder or a zip")
    store = _data_store(settings)
    form = form_of(store, settings)
    check_options(form, settings)
    if settings.form is not None and not FORMS[form].possible(store, settings):
        raise DataError(_another_form(store, settings, form))
    if settings.group_by is not None and not named(
        FORMS[form].columns(store, settings), settings.group_by
    ):
        _pattern(settings.group_by)


def _another_form(store: Store, settings: Settings, form: str) -> str:
    of_recipe = RECIPES.get(str(settings.recipe), {}).get("form") == form
    said = f"--recipe {settings.recipe}" if of_recipe else f"--form {form}"
    likely = [other for other, x in FORMS.items() if x.recognised(store, settings)]
    found = f"{FORMS[likely[0]].about}; --form {likely[0]} reads that" if likely else "none"
    return f"{settings.data}: {said} wants {FORMS[form].about}, found {found}"


def check_options(form: str, settings: Settings) -> None:
    """Raises UsageError for an option that this form does not use."""
    for name in _for_some_forms(settings):
        if name not in FORMS[form].settings:
            others = " or ".join(other for other, x in FORMS.items() if name in x.settings)
            raise UsageError(
                f"{option_name(name)} {getattr(settings, name)}: it is for --form {others}, and "
                f"the data are {FORMS[form].about} ({form})"
            )


def _for_some_forms(settings: Settings) -> list[str]:
    """The settings of OF_FORMS that were given; a recipe's own are not."""
    recipe = RECIPES.get(str(settings.recipe), {})
    return [name for name in OF_FORMS if getattr(settings, name) not in (None, recipe.get(name))]


def read_index(settings: Settings, folder: Path) -> tuple[Index, Store]:
    """The index of --data, and the store that its paths lie in. `folder` is the run's: pictures
    that are made of numbers are kept there (`Index.kept`). Raises DataError, UsageError."""
    store = _data_store(settings)
    form = form_of(store, settings)
    check_options(form, settings)
    index, photos = FORMS[form].read(store, settings, folder)
    return _with_specimens(index, settings.group_by), photos


def form_of(store: Store, settings: Settings) -> str:
    """The form asked for, else the first that is recognised. Raises DataError."""
    if settings.form is not None:
        return settings.form
    if given_table(settings):
        return pixel_csv.FORM if pixel_csv.recognised(store, settings) else image_csv.FORM
    for name, form in FORMS.items():
        if form.recognised(store, settings):
            return name
    known = "; ".join(f"{form.about} ({name})" for name, form in FORMS.items())
    names = store.names()
    found = f"only files ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
    if not names:
        raise DataError(f"{store.root}: the folder is empty; wanted one of: {known}")
    raise DataError(f"{store.root}: wanted one of: {known}; found {found}; --form says which it is")


def photos_store(settings: Settings) -> Store:
    """The store of photos where nothing is kept in the run. Raises DataError."""
    return image_csv.images_of(_data_store(settings), settings)[0]


def fingerprint(settings: Settings) -> object:
    """A JSON value that changes when any file that is read does. Raises DataError, UsageError.

    A zip: its sha256. A folder: one of the sha256 of every file in it by name. A CSV given as
    --data: of the files that it names, as others may lie beside it.
    """
    check_source(settings)
    store = _data_store(settings)
    form = form_of(store, settings)
    if form == image_csv.FORM:
        image_csv.check(store, settings)
    elif form == pixel_csv.FORM:
        pixel_csv.check(store, settings)
    found: dict[str, object] = {"form": form}
    if settings.groups is not None:
        found["groups"] = _sha256(settings.groups)
    photos, found["inside"] = image_csv.images_of(store, settings)
    given = given_table(settings)
    if given is None:
        found["data"] = _digest_of(store)
        if photos is not store:
            found["images"] = _digest_of(photos)
        return found
    beside = [name for name in store.top_names() if name.casefold() == CLASSES_FILE]
    if form == pixel_csv.FORM:
        found["data"] = _digests(store, [*pixel_csv.files(store, settings), *beside])
    else:
        index, _ = image_csv.read(store, settings, settings.run_folder)
        found["data"] = _digests(store, [given, *beside])
        found["images"] = _digests(photos, [entry.path for entry in index.entries])
    return found


def _sha256(path: Path) -> str:
    with reading(str(path)):
        return sha256_file(path)


def _digest_of(store: Store) -> str:
    if store.root.is_file():
        return _sha256(store.root)
    return sha256_json([_digests(store, store.names()), store.folders(), dict(store.problems())])


def _digests(store: Store, names: Sequence[str]) -> str:
    with ThreadPoolExecutor() as pool:
        return sha256_json(list(zip(names, pool.map(store.digest, names), strict=True)))


def _data(settings: Settings) -> Path:
    assert settings.data is not None
    return settings.data


def _data_store(settings: Settings) -> Store:
    """--data itself, or the folder that a CSV given as --data lies in. Raises DataError."""
    data = _data(settings)
    return FolderStore(data.parent) if given_table(settings) else open_store(data)


def _with_specimens(index: Index, group_by: str | None) -> Index:
    """The index with a specimen for each photo whose path --group-by matches, unless a column of
    that name gave them. Raises UsageError for what is no regular expression, and DataError where
    no photo gets one."""
    if group_by is None:
        return index
    entries = index.entries
    if not any(entry.specimen for entry in entries):
        pattern = _pattern(group_by)
        entries = tuple(
            replace(entry, specimen=_specimen(pattern, entry.path)) for entry in entries
        )
    usable = [entry for entry in entries if not entry.problem]
    warnings = index.warnings
    without = sum(1 for entry in usable if not entry.specimen)
    if usable and without == len(usable):
        column = (
            "only empty cells in that column"
            if named(index.columns, group_by)
            else (f"no column of that name among {shown(index.columns)}" if index.columns else "")
        )
        raise DataError(
            f"--group-by {group_by}: wanted a specimen for the photos, found "
            f"{f'{column} and ' if column else ''}no match in any path, as in {usable[0].path}"
        )
    if without:
        have = "has" if without == 1 else "have"
        warnings += (
            f"--group-by {group_by}: {without} of {counted(len(usable), 'photo')} {have} no "
            "specimen; each of these counts as one of its own",
        )
    return replace(index, entries=entries, warnings=warnings)


def _pattern(group_by: str) -> re.Pattern[str]:
    """Raises UsageError."""
    try:
        return re.compile(group_by)
    except re.error as error:
        raise UsageError(
            f"--group-by {group_by!r}: wanted a column or a regular expression ({error})"
        ) from error


def _specimen(pattern: re.Pattern[str], path: str) -> str:
    found = pattern.search(path)
    if found is None:
        return ""
    return (found.group(1) if pattern.groups else found.group()) or ""
