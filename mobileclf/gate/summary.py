"""Checks as Markdown: what a job's page or a comment on a pull request shows."""

from __future__ import annotations

from collections.abc import Sequence

from mobileclf.wording import counted, plain

from .check import Change, Check

SIGNS = {True: "passed", False: "**failed**", None: "not judged"}
MOST_DETAILS = 20


def markdown(title: str, checks: Sequence[Check], changes: Sequence[Change] = ()) -> str:
    """A heading with the outcome, a row for each check, the photos that failed ones name, and what
    changed. Ends in a newline."""
    failed = [check for check in checks if check.passed is False]
    outcome = f"{counted(len(failed), 'check')} of {len(checks)} failed" if failed else "passed"
    lines = [f"## {_text(title)}: {outcome}", ""]
    lines += _table(
        ("check", "", "wanted", "found"),
        [(check.name, SIGNS[check.passed], check.wanted, check.found) for check in checks],
        bold=SIGNS[False],
    )
    for check in failed:
        if check.details:
            lines += ["", f"### {_text(check.name)}", ""]
            lines += [f"- {_text(line)}" for line in shown(check.details)]
    if changes:
        lines += ["", "### Changed since the baseline", ""]
        lines += _table(("what", "was", "now"), [(c.what, c.was, c.now) for c in changes])
    return "\n".join(lines) + "\n"


def shown(details: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    more = len(details) - MOST_DETAILS
    return [*details[:MOST_DETAILS], *([f"and {more} more"] if more > 0 else [])]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], bold: str = "") -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    body = [[cell if cell == bold else _text(cell) for cell in row] for row in rows]
    return [line(head), line(["---"] * len(head)), *map(line, body)]


def _text(value: str) -> str:
    """Names are anybody's: none is markup, ends a cell or a line."""
    escaped = plain(" ".join(value.split()))
    for sign in "\\|`*_<>[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped
