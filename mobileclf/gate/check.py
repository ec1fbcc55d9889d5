"""What a check says, and what an earlier bundle may be better by."""

from __future__ import annotations

from dataclasses import dataclass

from mobileclf.errors import ProofError
from mobileclf.records import Record

# How often a statistical check may fail where nothing is worse.
RISK = 0.05
# A model, or its latency, that grew by no more than this is not worse.
MOST_GROWTH = 0.10


@dataclass(frozen=True, kw_only=True)
class Check:
    """passed: None where it could not be judged, for the reason in `found`. details: a line for
    each thing to look at, as the photos that are meant."""

    name: str
    passed: bool | None
    wanted: str
    found: str
    details: tuple[str, ...] = ()

    def require(self) -> None:
        """Raises ProofError, in one line, where it failed."""
        if self.passed is False:
            raise ProofError(f"{self.name}: wanted {self.wanted}, found {self.found}")

    def as_gate(self) -> Record:
        """As the gates of parity.json are. Only of one that was judged."""
        assert self.passed is not None
        return {
            "gate": self.name,
            "passed": self.passed,
            "wanted": self.wanted,
            "found": self.found,
        }


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an earlier bundle may be better by. max_drop: of accuracy, max_missed: of the share of
    harmful photos not called harmless, both as fractions and both only where shown. seconds: to
    measure latency in; 0: it is not."""

    max_drop: float = 0.01
    max_missed: float = 0.01
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that is not as it was; whether that is worse, the checks say."""

    what: str
    was: str
    now: str


def not_judged(name: str, wanted: str, why: str, details: tuple[str, ...] = ()) -> Check:
    """A check that could not be judged."""
    return Check(name=name, passed=None, wanted=wanted, found=why, details=details)


def of_gates(record: Record) -> list[Check]:
    """The gates of a parity.json as checks, and behind them those beside its baseline that could
    not be judged."""
    beside = record.get("baseline") or {}
    rows = [*record["gates"], *({**row, "passed": None} for row in beside.get("not_judged", ()))]
    return [
        Check(
            name=str(row["gate"]),
            passed=row["passed"],
            wanted=str(row["wanted"]),
            found=str(row["found"]),
        )
        for row in rows
    ]
