"""Checks as JUnit's XML, which every CI shows: a test case for each."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as xml

from mobileclf.wording import plain

from .check import Check


def junit(suite: str, checks: Sequence[Check]) -> bytes:
    """One suite of test cases, as UTF-8 XML. No test case has a time, so
    that equal checks give equal bytes; what a check of latency measured is in its words."""
    failed = sum(check.passed is False for check in checks)
    skipped = sum(check.passed is None for check in checks)
    counts = {"tests": len(checks), "failures": failed, "errors": 0, "skipped": skipped}
    about = {"name": _text(suite), **{name: str(count) for name, count in counts.items()}}
    top = xml.Element("testsuites")
    parent = xml.SubElement(top, "testsuite", about)
    for check in checks:
        case = xml.SubElement(parent, "testcase", classname=_text(suite), name=_text(check.name))
        said = _text(f"wanted {check.wanted}, found {check.found}")
        if check.passed is False:
            failure = xml.SubElement(case, "failure", message=said)
            failure.text = "\n".join(map(_text, check.details))
        elif check.passed is None:
            xml.SubElement(case, "skipped", message=said)
    xml.indent(top, " ")
    text: str = xml.tostring(top, encoding="unicode", xml_declaration=True)
    return text.encode() + b"\n"


def _text(value: str) -> str:
    """XML has no place for most control characters, not even escaped, nor for half a pair."""
    return plain(value)
