"""Bars and messages where there is no notebook: a terminal, and a pipe."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
from mobileclf import progress
progress.say("said [red]x[/red] :bug: $x$")
progress.say("\\x1b]0;t\\x07\\u202e\\udcff\\r")
for title in ("first", "second"):
    for _ in progress.track([1, 2], title, 2):
        pass
progress.warn("careful")
print("IPython" in __import__("sys").modules)
"""
SAID = "said [red]x[/red] :bug: $x$"
PLAIN = r"\x1b]0;t\x07\u202e\udcff\r"
WARNED = "warning: careful"


def test_in_a_pipe_there_are_the_messages_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stderr == f"{SAID}\n{PLAIN}\n{WARNED}\n"
    assert done.stdout == "False\n"


def test_in_a_terminal_bars_are_drawn_and_erased() -> None:
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # how Linux says that the other end is closed
    os.close(ours)
    assert child.wait() == 0
    text = shown.decode()
    assert SAID in text and WARNED in text
    for title in ("first", "second"):
        assert f"{title} " in text
    assert "━" in text and "2/2" in text
    assert text.count("\x1b[2K") >= 2  # a line is erased for each bar
