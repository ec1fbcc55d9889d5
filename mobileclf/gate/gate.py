"""A bundle, photos and an earlier bundle, opened once for all checks."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mobileclf.errors import DataError, MobileclfError, UsageError
from mobileclf.records import Record

from . import baseline as earlier
from .baseline import Pair
from .check import Limits
from .figures import PARITY, Figures, read_figures
from .subject import Answers, Photos, Subject, answers, load_photos, open_bundle


class Gate:
    """A bundle, photos and an earlier bundle; what takes long is done once, when it is needed.

    data: as in `load_photos`. baseline: an earlier bundle's folder or parity.json.
    """

    def __init__(
        self,
        bundle: Path,
        data: Path | None = None,
        baseline: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.folder, self.data, self.baseline = bundle, data, baseline
        self.limits = limits or Limits()

    @cached_property
    def _opened(self) -> tuple[Record, Subject] | DataError:
        try:
            return open_bundle(self.folder)
        except DataError as error:
            return error

    @property
    def problem(self) -> DataError | None:
        """Why the bundle's files are not those that were proven; None where they are."""
        return self._opened if isinstance(self._opened, DataError) else None

    @property
    def record(self) -> Record:
        """bundle.json. Raises DataError where a file of the bundle is not as it was proven."""
        return self._sound[0]

    @property
    def subject(self) -> Subject:
        """The bundle's model. Raises as `record`."""
        return self._sound[1]

    @property
    def _sound(self) -> tuple[Record, Subject]:
        if isinstance(self._opened, DataError):
            raise self._opened
        return self._opened

    @cached_property
    def refused(self) -> DataError | None:
        """Why the model file, which is as it was proven, does not run; None where it does."""
        from mobileclf.tflite import delegates

        file = self.folder / self.record["model"]["file"]
        try:
            delegates.check_runs(file)
        except DataError as error:
            return DataError(f"{file}: {error}")
        return None

    @cached_property
    def no_photos(self) -> MobileclfError | None:
        """Why there are no photos to check on; None where there are."""
        try:
            _ = self.photos
        except (DataError, UsageError) as error:
            return error
        return None

    @cached_property
    def no_baseline(self) -> DataError | None:
        """Why there is nothing to compare with: the earlier bundle or record cannot be used, or
        cannot be asked about these photos; None where it can."""
        assert self.baseline is not None
        try:
            if not earlier.is_bundle(self.baseline):
                _ = self.figures
            elif self.alike and self.data is not None and not (self.no_photos or self.refused):
                _ = self.pair
        except DataError as error:
            return error
        return None

    @property
    def model(self) -> bytes:
        """The model file, once it has run in a process of its own: a broken one, whose hash was
        written anew, might end this one. Raises DataError, also as `record`."""
        subject = self.subject
        if self.refused is not None:
            raise self.refused
        return subject.model

    @cached_property
    def photos(self) -> Photos:
        assert self.data is not None
        return load_photos(self.data, self.subject.classes, self.subject.spec)

    @cached_property
    def answers(self) -> Answers:
        return answers(replace(self.subject, model=self.model), self.photos)

    @cached_property
    def before(self) -> Subject:
        """The model of the earlier bundle."""
        assert self.baseline is not None
        return earlier.open_baseline(self.baseline)

    @cached_property
    def figures(self) -> tuple[Figures, Figures]:
        """Of the earlier record, and of the bundle's own. Raises DataError."""
        assert self.baseline is not None
        return read_figures(self.baseline), read_figures(self.folder / PARITY)

    @property
    def alike(self) -> bool:
        """Whether the earlier bundle has the same labels, in any order."""
        return set(self.before.classes.labels) == set(self.subject.classes.labels)

    @cached_property
    def pair(self) -> Pair:
        """Both models on the photos. Raises DataError where the earlier one cannot use them."""
        return earlier.pair_on(self.before, self.subject, self.photos, self.data, self.answers)
