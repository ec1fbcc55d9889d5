"""What can go wrong, and the exit code that says so.

MobileclfError            1  a defect in mobileclf itself
├── UsageError            2  wrong option, configuration or value
├── ProofError            3  a proof failed: equality, audit, parity, a model that learnt nothing
├── DataError             4  bad data, model, weights or bundle
└── EnvironmentProblem    5  missing package, network, disk, permission

A message is one line: what, where, what was wanted, what was found, what to do.
"""

from __future__ import annotations

INTERRUPTED = 130


class MobileclfError(Exception):
    """Base of all errors that end a command with one line; `exit_code` is the process's."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(MobileclfError):
    """The command line, `mobileclf.toml` or an argument from Python is wrong."""

    exit_code = 2


class ProofError(MobileclfError):
    """Something that had to be shown did not hold."""

    exit_code = 3


class DataError(MobileclfError):
    """Photos, weights, a model, a record or a bundle cannot be used as they are."""

    exit_code = 4


class EnvironmentProblem(MobileclfError):
    """The machine lacks something: a package, the network, disk space, a permission."""

    exit_code = 5
