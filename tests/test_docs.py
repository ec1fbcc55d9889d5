"""README says what is there: commands, options, exit codes, columns, stages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import mobileclf
from mobileclf import cli, errors, pipeline, prediction
from mobileclf.config import OPTIONS, option_name

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
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
        flags = [word for word in rest if word.startswith("-")]
        if name not in COMMANDS or not set(flags) <= flags_of(COMMANDS[name]):
            wrong.append(line)
    return wrong


CODE = "\n".join(
    shell or inline
    for shell, inline in re.findall(r"```sh\n(.*?)```|`(mobileclf [^`]+)`", README, re.S)
)


def test_the_commands_and_flags_in_readme_exist() -> None:
    assert "mobileclf export --int8" in CODE
    assert unknown_in(CODE) == []


@pytest.mark.parametrize("line", ["mobileclf frobnicate", "mobileclf train --bogus"])
def test_the_check_of_commands_can_fail(line: str) -> None:
    assert unknown_in(line) == [line.removeprefix("mobileclf ")]


def test_every_command_is_in_the_table() -> None:
    listed = re.findall(r"^\| `mobileclf ([a-z]+)", README, re.M)
    assert listed == ["export", "sample", *pipeline.STAGES[:-1], "predict"]
    assert set(listed) == set(COMMANDS)


BENCHMARK = r"python benchmarks/(\w+\.py)([^`\n]*)"


def test_every_flag_in_readme_exists() -> None:
    every = {flag for command in COMMANDS.values() for flag in flags_of(command)}
    text = re.sub(BENCHMARK, "", README)
    found = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]+", text))
    assert {"--harmful", "--max-drop"} <= found
    assert found <= every


def test_the_benchmarks_in_readme_exist_with_their_flags() -> None:
    lines = re.findall(BENCHMARK, README)
    assert len(lines) >= 3
    for script, flags in lines:
        text = (ROOT / "benchmarks" / script).read_text()
        for flag in re.findall(r"--[a-z-]+", flags):
            assert f'"{flag}"' in text, (script, flag)


def test_the_flags_of_a_command_are_the_settings_names() -> None:
    assert {option_name(name) for name in OPTIONS} <= flags_of(COMMANDS["export"])


def test_the_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    tree = [errors.MobileclfError, *errors.MobileclfError.__subclasses__()]
    assert listed == {0, errors.INTERRUPTED} | {kind.exit_code for kind in tree}


def test_the_columns_are_those_of_predict() -> None:
    assert f"`{','.join(prediction.COLUMNS)}`" in README


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
