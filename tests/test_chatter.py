"""What libraries print goes to the log; what mobileclf says goes to the screen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from mobileclf import chatter, progress

def chat(word):
    os.write(1, f"native out {word}\\n".encode())
    os.write(2, f"native err {word}\\n".encode())
    print(f"python out {word}", flush=True)
    print(f"python err {word}", file=sys.stderr, flush=True)
    progress.say(f"said {word}")

log = None if sys.argv[1] == "-" else Path(sys.argv[1])
try:
    with chatter.led_to(log):
        chat("within")
        for _ in progress.track([1, 2], "bar", 2):
            pass
        raise ValueError
except ValueError:
    pass
chat("after")
"""
KINDS = ("native out", "native err", "python out", "python err")


def run(log: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_only_messages_reach_the_screen_and_all_is_restored(tmp_path: Path) -> None:
    out, err = run(str(tmp_path / "log"))
    log = (tmp_path / "log").read_text()
    assert all(f"{kind} within" in log for kind in KINDS)
    assert "within" not in out
    assert [line for line in err.splitlines() if "within" in line] == ["said within"]
    assert "after" not in log
    assert all(f"{kind} after" in out + err for kind in KINDS)
    assert "said after" in err


def test_verbose_lets_everything_through() -> None:
    out, err = run("-")
    assert all(f"{kind} within" in out + err for kind in KINDS)
