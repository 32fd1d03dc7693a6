"""Every command says how it is used, and what it says is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanrelay.cli import COMMANDS, file_of, main, make_parser

_FOR_SHELLS = re.compile(r' *# .*$| [<>] \S+|^eval "\$\(|\)"')


def said() -> Iterator[str]:
    for command in COMMANDS:
        examples = file_of(command).EXAMPLES
        assert examples, command
        yield from examples


@pytest.mark.parametrize("example", list(said()))
def test_an_example_is_a_command_that_there_is(example: str) -> None:
    program, *arguments = shlex.split(_FOR_SHELLS.sub("", example))
    assert program == "spanrelay"
    assert make_parser().parse_args(arguments).command == arguments[0]


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_examples_as_they_are_typed(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    head, examples = capsys.readouterr().out.split("\nexamples:\n")
    assert examples.splitlines() == [f"  {each}" for each in file_of(command).EXAMPLES]
    assert max(map(len, examples.splitlines())) <= 80
    assert columns == 40 or max(map(len, head.splitlines())) <= columns  # some words are longer than that


def test_bash_completes_commands_and_their_options(tmp_path: Path) -> None:
    asked = """
source /dev/stdin
COMP_WORDS=(spanrelay "$@"); COMP_CWORD=$#
_shtab_spanrelay
printf '%s\\n' "${COMPREPLY[@]}"
"""
    shell = subprocess.run(
        [sys.executable, "-m", "spanrelay", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout

    def completed(*words: str) -> list[str]:
        done = subprocess.run(["bash", "-c", asked, "bash", *words], input=shell, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert completed("val") == ["validate"]
    assert completed("show", "--st") == ["--steps"]


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    code = """
import sys
from spanrelay.cli import COMMANDS, main
main(["list"])
print(sorted(each for each in COMMANDS if f"spanrelay.cli.{each}" in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"  # that of `list` is called otherwise
