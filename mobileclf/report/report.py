"""What people read of a bundle: `report.html` and `MODEL_CARD.md`, filled from the records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileclf.records import Record

from .curves import not_sure_words
from .threshold import guarantee_words, policy_words

HTML, CARD = "report.html", "MODEL_CARD.md"


def render(bundle: Record, records: Mapping[str, Record]) -> dict[str, str]:
    """The pages by file name. bundle: bundle.json's body; records: those of the run by name.

    No times in them: equal runs give equal pages. Labels and names are escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    values: dict[str, Any] = {
        "bundle": bundle,
        "dataset": records["dataset.json"],
        "train": records["train.json"],
        "quantize": records["quantize.json"],
        "convert": records["convert.json"],
        "selection": records["selection.json"],
        "threshold": records["threshold.json"],
        "parity": records["parity.json"],
    }
    pages = {}
    for name, escape in ((HTML, True), (CARD, False)):
        environment = Environment(
            loader=PackageLoader("mobileclf", "report/templates"),
            autoescape=escape,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
        environment.filters["markdown"] = _markdown
        environment.filters["policy"] = policy_words
        environment.filters["promise"] = guarantee_words
        environment.filters["not_sure"] = not_sure_words
        pages[name] = environment.get_template(f"{name}.j2").render(values)
    return pages


def _markdown(text: object) -> str:
    """A name as plain text in Markdown, whatever marks are in it."""
    return "".join("\\" + c if c in "\\`*_{}[]<>()#+-.!|" else c for c in str(text))
