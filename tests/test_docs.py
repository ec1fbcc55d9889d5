"""README says what is there: commands, options, exit codes, columns, stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import mobileclf
from benchmarks.agreement import PLAIN
from mobileclf import cli, errors, pipeline
from mobileclf.benchmark import rounds
from mobileclf.images import checks, duplicates, preprocess, verdict_sheet
from mobileclf.images.load import ImageSpec
from mobileclf.models import equality
from mobileclf.prediction.predict import COLUMNS
from mobileclf.recipes import RECIPES
from mobileclf.report import stages as report
from mobileclf.scores import PARTS
from mobileclf.settings import FORMS, OPTIONS, option_name
from mobileclf.source import store
from mobileclf.spelling import AUGMENTATIONS, SEEDS
from mobileclf.stages import dataset, score
from mobileclf.stats import assignment
from mobileclf.stats.calibration import SMALLEST

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
INSTRUMENTS = (ROOT / "docs" / "instruments.md").read_text()
INSTRUMENT_NAMES = ("score", "predict", "inspect", "bench", "doctor")
DATA_PAGE = (ROOT / "docs" / "data.md").read_text()
DOCS = README + "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
COMMANDS: dict[str, Any] = get_command(cli.app).commands  # type: ignore[attr-defined]


def flags_of(command: Any) -> set[str]:
    found = {"--help", "-h"}
    for parameter in command.params:
        found |= set(parameter.opts) | set(parameter.secondary_opts)
    return found


def unknown_in(text: str) -> list[str]:
    """Each `mobileclf …` line of the text that names a command or flag which is not there."""
    wrong = []
    for line in re.findall(r"mobileclf ((?!=)[a-z-]+[^`\n#|]*)", text):
        name, *rest = line.split()
        flags = [word for word in rest if re.match("--?[a-z]", word)]  # -1..1 is a value
        if name not in COMMANDS or not set(flags) <= flags_of(COMMANDS[name]):
            wrong.append(line)
    return wrong


CODE = "\n".join(
    shell or inline
    for shell, inline in re.findall(r"```sh\n(.*?)```|`(mobileclf [^`]+)`", DOCS, re.S)
)


def test_the_commands_and_flags_in_the_docs_exist() -> None:
    assert "mobileclf export --int8" in CODE
    assert unknown_in(CODE) == []


@pytest.mark.parametrize(
    "line", ["mobileclf frobnicate", "mobileclf train --bogus", "mobileclf train -k"]
)
def test_the_check_of_commands_can_fail(line: str) -> None:
    assert unknown_in(line) == [line.removeprefix("mobileclf ")]


def test_every_command_is_in_the_table() -> None:
    listed = re.findall(r"^\| `mobileclf ([a-z]+)", README, re.M)
    instruments = ["predict", "inspect", "bench", "doctor"]
    assert listed == ["export", "sample", *pipeline.STAGES[:-1], *instruments]
    assert set(listed) == set(COMMANDS)


BENCHMARK = r"python benchmarks/(\w+\.py)([^`\n]*)"


def test_every_flag_in_the_docs_exists() -> None:
    every = {flag for command in COMMANDS.values() for flag in flags_of(command)}
    # Those of other programs: of benchmarks, of Slurm, of XLA and of pytest.
    others = rf"{BENCHMARK}|#SBATCH.*|srun --[\w-]+|--xla_\w+|--mobileclf-[\w-]+|--junitxml"
    text = re.sub(others, "", DOCS)
    found = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]+", text))
    assert {"--harmful", "--max-drop"} <= found
    assert found <= every


def test_the_benchmarks_in_the_docs_exist_with_their_flags() -> None:
    lines = re.findall(BENCHMARK, DOCS)
    assert len(lines) >= 3
    for script, flags in lines:
        text = (ROOT / "benchmarks" / script).read_text()
        for flag in re.findall(r"--[a-z-]+", flags):
            assert f'"{flag}"' in text, (script, flag)


def test_the_lines_in_readme_are_those_that_the_benchmark_runs() -> None:
    assert f"```python\n{PLAIN.lstrip()}```" in README


def test_the_flags_of_a_command_are_the_settings_names() -> None:
    assert {option_name(name) for name in OPTIONS} <= flags_of(COMMANDS["export"])


def test_the_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    tree = [errors.MobileclfError, *errors.MobileclfError.__subclasses__()]
    assert listed == {0, errors.INTERRUPTED} | {kind.exit_code for kind in tree}


def test_the_columns_are_those_of_predict() -> None:
    assert f"`{','.join(COLUMNS)}`" in README


def test_the_records_are_those_of_the_stages() -> None:
    for name in pipeline.STAGES[:-1]:
        (row,) = re.findall(rf"^\| `mobileclf {name}\b.*$", README, re.M)
        assert f"`{pipeline.stage(name).record}`" in row


def test_python_has_a_function_for_each_command() -> None:
    assert set(COMMANDS) <= set(mobileclf.__all__)
    for name in mobileclf.__all__:
        assert getattr(mobileclf, name) is not None
    # A submodule of that name would take the function's place once it is imported.
    assert callable(mobileclf.predict)
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = mobileclf.frobnicate


def test_the_page_on_data_has_the_figures_of_the_code() -> None:
    def has(text: str) -> bool:
        return text in DATA_PAGE

    assert has(f"({duplicates.HASH_BITS} bits) differ in at most {duplicates.MAX_DISTANCE} bits")
    side = duplicates.SIDE
    assert has(f"as {side} × {side} grey, correlate above {duplicates.MIN_CORRELATION}")
    assert has(f"Below {duplicates.SMALLEST} pixels on the shorter side")
    assert has(f"under {checks.TINY} pixels on a side")
    assert has(f"classes under {dataset.FEW} photos, classes more than {dataset.UNBALANCED} times")
    assert has(f"more than {ImageSpec.max_pixels // 10**6} million pixels")
    assert has(f"a file over {store.MAX_BYTES // 10**6} MB")


def test_the_page_on_data_names_every_form_augmentation_and_given_part() -> None:
    assert set(re.findall(r"--form ([a-z-]+)", DATA_PAGE)) == set(FORMS)
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| ", DATA_PAGE, re.M)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == set(AUGMENTATIONS)
    assert f"`seeds` stands for `{SEEDS}`" in DATA_PAGE
    for part in PARTS:
        assert f"`{part}`" in DATA_PAGE


def test_the_page_on_ones_own_model_has_what_the_code_has() -> None:
    page = (ROOT / "docs" / "own_model.md").read_text()
    for name in (*preprocess.NAMED, "--trust", "--labels", "--image-size"):
        assert name in page, name
    assert f"p < {assignment.LEVEL}" in page
    assert f"more than {equality.EQUAL:.0e}".replace("e-05", "e-5") in page


def test_every_recipe_is_in_readme() -> None:
    assert set(re.findall(r"`(seed-[a-z-]+)`", README)) == set(RECIPES)


def test_the_page_on_instruments_has_the_figures_of_the_code() -> None:
    for text in (
        f"Training photos ({score.MOST_TRAIN} of them",
        f"(over {report.MOST_CLASSES} classes",
        f"Up to {preprocess.MOST_CLIPPED} of the 256 bytes",
        f"fewer than {preprocess.FEWEST_STEPS} different values",
        f"of over {verdict_sheet.MOST} the marked ones",
        f"±{rounds.WIDTH:.0%}".replace("%", " %"),
        f"at least {rounds.LEAST_ROUNDS} rounds",
    ):
        assert text in INSTRUMENTS, text
    assert round(1 / SMALLEST) == 512 and "counts as 1/512" in INSTRUMENTS
    names = re.findall(r"^\| `([^`]+)` \| ", INSTRUMENTS, re.M)
    assert set(names) == {*preprocess.NAMED, "M,S"}
    for name in INSTRUMENT_NAMES:
        assert f"## {name}\n" in INSTRUMENTS
