"""Words that messages share."""

from __future__ import annotations


def plain(text: str) -> str:
    """`text` on one line without what would steer a terminal: control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, what: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`; `many` where the plural is another word."""
    return f"{count} {what}" if count == 1 else f"{count} {many or what + 's'}"
