"""Every command says how it is used, and what it says is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

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


MEANT = {
    "shwo": "argument COMMAND: invalid choice: 'shwo'; did you mean 'show'?",
    "show --stpes=3": "unrecognized arguments: --stpes=3; did you mean '--steps'?",
    "plugins lst": "argument ACTION: invalid choice: 'lst'; did you mean 'list'?",
    "completion fsh": "argument shell: invalid choice: 'fsh'; did you mean 'fish'?",
    "doctor --jsn --what": "unrecognized arguments: --jsn; did you mean '--json'? --what",
}


@pytest.mark.parametrize("typed", MEANT)
def test_a_word_that_is_not_known_is_told_with_the_nearest(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed.split())
    assert ended.value.code == 2
    command = typed.split()[0]
    who = f"spanrelay {command}" if command in COMMANDS else "spanrelay"
    assert capsys.readouterr().err.splitlines()[-1] == f"{who}: error: {MEANT[typed]}"


def test_a_word_that_is_near_nothing_is_told_with_all_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    assert "invalid choice: 'xyzzy' (choose from" in capsys.readouterr().err


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


@pytest.mark.skipif(which("fish") is None, reason="needs fish")
def test_fish_completes_commands_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    asked = ["fish", "-c", 'source -; complete -C "spanrelay val"; complete -C "spanrelay show --st"']
    done = subprocess.run(asked, input=capsys.readouterr().out, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["validate", "--steps"]


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    code = """
import sys
from spanrelay.cli import COMMANDS, main
main(["list"])
print(sorted(each for each in COMMANDS if f"spanrelay.cli.{each}" in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"  # that of `list` is called otherwise
