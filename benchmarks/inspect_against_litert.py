"""`inspect`'s delegates against LiteRT's own log, and its table of releases against TensorFlow's.

    python benchmarks/inspect_against_litert.py MODEL.tflite ...
    python benchmarks/inspect_against_litert.py --releases

LiteRT logs how many operators it hands to delegates, and into how many partitions the graph
falls, but only at a level that it has no Python call for: the level is set in memory, at the
place that `nm` finds. TensorFlow's own function for the first release of an operator's version is
called in its library. Both need Linux and `nm`. Exit code 1 where something differs, 2 where it
cannot be asked.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

LIBRARY = "libpywrap_litert_common.so"
LEVEL = "_ZN6tflite16logging_internal13MinimalLogger21minimum_log_severity_E"
LINE = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate .* yielding (\d+) part")
RELEASE = "FindMinimumRuntimeVersionForOp"
VERBOSE = 0
MOST_VERSIONS = 40


def address(library: Path, name: str, *options: str) -> tuple[int, str]:
    """Address in the library, and whole name, of the symbol that contains `name`."""
    try:
        said = subprocess.run(
            ["nm", *options, str(library)], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(cannot(f"nm cannot list {library.name} ({error})"))
    for line in said.splitlines():
        if name in line:
            return int(line.split()[0], 16), line.split()[-1].split("@")[0]
    sys.exit(cannot(f"{library.name} has no {name}"))


def cannot(why: str) -> int:
    print(f"cannot be asked: {why}", file=sys.stderr)
    return 2


def log_partitions(model: str) -> None:
    """In a child: load the model with LiteRT's most talkative log."""
    from ai_edge_litert import interpreter

    library = Path(interpreter.__file__).parent / LIBRARY
    offset, _ = address(library, LEVEL)
    mapped = Path("/proc/self/maps").read_text().splitlines()
    base = min(int(line.split("-")[0], 16) for line in mapped if line.endswith(LIBRARY))
    ctypes.c_int.from_address(base + offset).value = VERBOSE
    interpreter.Interpreter(model_path=model, num_threads=1).allocate_tensors()


def compare_delegates(model: Path) -> bool:
    """Whether inspect says of `model` what LiteRT's log says."""
    from mobileclf.tflite import delegates, graph

    command = [sys.executable, __file__, "--log", str(model)]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode:
        sys.exit(cannot(child.stderr.strip() or f"exit {child.returncode}"))
    lines = [tuple(map(int, found)) for found in LINE.findall(child.stderr)]
    taken, operators, partitions = lines[0] if lines else (0, None, 0)
    first = graph.read(model.read_bytes()).subgraphs[0]
    own = delegates.shares(first, delegates.load(model, [delegates.MAIN])[0])
    # Delegates and what is left to the built-in kernels take turns in the plan.
    same = len(lines) <= 1 and own["operators_taken"] == taken
    same &= operators in (None, own["operators"]) and abs(partitions - 2 * own["delegates"]) <= 1
    left = {row["operator"]: row["count"] for row in own["operators_left"]}
    print(
        f"{'same' if same else 'DIFFERS'}  {model.name}: inspect: {own['delegates']} delegates, "
        f"{own['operators_taken']} of {own['operators']} taken, left {left}; "
        f"log: {taken} of {operators}, {partitions} partitions"
    )
    return same


def compare_releases() -> bool:
    """Whether the table of releases is TensorFlow's, for every operator and version."""
    from ai_edge_litert import schema_py_generated as schema

    from mobileclf.tflite.runtime_versions import first_release

    # Without an import of TensorFlow, which takes longer than all that is asked.
    package = find_spec("tensorflow")
    if package is None or package.origin is None:
        sys.exit(cannot("wanted TensorFlow, found none"))
    library = Path(package.origin).parent / "libtensorflow_cc.so.2"
    _, symbol = address(library, RELEASE, "-D", "--defined-only")
    ask = getattr(ctypes.CDLL(str(library)), symbol)
    ask.restype, ask.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    known, different = 0, []
    for name, code in vars(schema.BuiltinOperator).items():
        if name.startswith("_"):
            continue
        for number in range(MOST_VERSIONS):
            # The result is a std::string: where its characters are, and how many.
            text = (ctypes.c_uint64 * 8)()
            ask(ctypes.addressof(text), code, number)
            theirs = ctypes.string_at(text[0], text[1]).decode() or None
            known += theirs is not None
            if theirs != first_release(name, number):
                different.append((name, number, theirs, first_release(name, number)))
    release = version("tensorflow")
    print(f"TensorFlow {release} knows {known} versions of operators; other: {different}")
    return not different


def main(arguments: list[str]) -> int:
    if find_spec("ai_edge_litert") is None or not sys.platform.startswith("linux"):
        return cannot("wanted LiteRT on Linux")
    if arguments[:1] == ["--log"]:
        log_partitions(arguments[1])
        return 0
    if arguments == ["--releases"]:
        return 0 if compare_releases() else 1
    return 0 if all([compare_delegates(Path(model)) for model in arguments]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
