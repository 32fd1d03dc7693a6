"""What README and docs tell the reader to type works: every code block of a page runs, in order, as one program.

A block that cannot run has `<!-- not run: the reason -->` on the line before it.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spanrelay_testkit.model_scripts import pages
from spanrelay_testkit.model_server import ModelServer

ROOT = Path(__file__).parents[1]
OWN = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES = sorted([*OWN, *ROOT.glob("docs/**/*.md"), *ROOT.glob("instrumentors/*/README.md")])
MAP = ROOT / "docs" / "README.md"
RUN_BY = {"docs/nemo-guardrails.md": "tests/plugins/test_nemo_guardrails.py", "docs/release.md": ".ci/run"}
"""What runs the pages of the map that have no block which these tests run: it needs more than others have."""
NOTHING_TO_RUN = {"CHANGELOG.md"}
SHELL = ("bash", "sh", "shell", "console")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<source>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
MARKER = re.compile(r"<!-- not run: \S.* -->\s*\Z")
LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".git", "__pycache__", ".spanrelay", ".*_cache", ".hypothesis", "*.egg-info"
)


@dataclass(frozen=True)
class Block:
    language: str
    source: str
    line: int
    """Of the first line of the source, from 1."""


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a page that are to run."""
    for found in FENCE.finditer(text):
        if not MARKER.search(text[: found.start()]):
            source = re.sub(f"^{found['indent']}", "", found["source"], flags=re.MULTILINE)
            yield Block(found["language"], source, text[: found.start("source")].count("\n") + 1)


def pages_with(*languages: str) -> list[pytest.param]:
    return [
        pytest.param(page, [block for block in blocks_of(page.read_text()) if block.language in languages], id=name)
        for page in PAGES
        if any(block.language in languages for block in blocks_of(page.read_text()))
        for name in [str(page.relative_to(ROOT))]
    ]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A reader's environment: a model to talk to, and nothing of ours set."""
    ours = ("OTEL_", "SPANRELAY_", "OPENAI_", "PIP_", "MAKE", "MFLAGS")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with ModelServer(pages) as server:
        yield {**outside, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"}


def run(command: list[str], program: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, input=program, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


PYTHON_PAGE = """\
import json, sys
page = json.load(sys.stdin)
names = {"__name__": "__main__"}
for source, line in page["blocks"]:
    exec(compile("\\n" * (line - 1) + source, page["path"], "exec"), names)
"""


@pytest.mark.parametrize(("page", "blocks"), pages_with("python"))
def test_python_of_a_page_runs(page: Path, blocks: list[Block], environment: dict[str, str], tmp_path: Path) -> None:
    program = json.dumps({"path": str(page), "blocks": [(block.source, block.line) for block in blocks]})
    run([sys.executable, "-c", PYTHON_PAGE], program, tmp_path, environment)


def shell_program(page: Path, blocks: list[Block]) -> str:
    """One script, in which a failure names the line of the page, and which leaves nothing running."""
    lines = [
        "set -eu",
        "trap 'echo \"failed at $where\" >&2' ERR",
        "set -E",
        "trap 'kill $(jobs -p) 2>/dev/null || :; wait' EXIT",
    ]
    for block in blocks:
        lines.append(f"where={page.name}:{block.line}")
        typed = block.source
        if block.language == "console":
            typed = "".join(f"{line[2:]}\n" for line in typed.splitlines() if line.startswith("$ "))
        lines.append(typed)
    return "\n".join(lines)


def copy_environment(folder: Path) -> Path:
    """A stand-in for `.venv` that is this environment, and which make takes for installed."""
    own = Path(sys.prefix)
    folder.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / name).symlink_to(own / name)
    (folder / ".installed").touch()
    return folder


def programs_for(blocks: list[Block], folder: Path) -> Path:
    """The environment a page starts with: an empty one where it tells to install, else this one."""
    if any("pip install" in block.source for block in blocks):
        venv.create(folder, with_pip=True)
        return folder
    return copy_environment(folder)


def on_free_ports(program: str) -> str:
    """The program with other ports of this machine than those that it names, at which somebody may listen."""
    for port in ("4318", "8080"):
        if f"127.0.0.1:{port}" in program:
            with socket.create_server(("127.0.0.1", 0)) as free:
                program = re.sub(rf"\b{port}\b", str(free.getsockname()[1]), program)
    return program


@pytest.mark.slow
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs to run from a virtual environment")
@pytest.mark.parametrize(("page", "blocks"), pages_with(*SHELL))
def test_commands_of_a_page_run(page: Path, blocks: list[Block], environment: dict[str, str], tmp_path: Path) -> None:
    clone = tmp_path / "spanrelay"
    shutil.copytree(ROOT, clone, ignore=LEFT_OUT)
    shutil.copy(ROOT / "examples" / "weather_agent.py", clone / "app.py")
    programs = programs_for(blocks, clone / ".venv")
    settings = {
        "PATH": f"{programs / 'bin'}{os.pathsep}{environment['PATH']}",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "TESTS": "tests/test_public_names.py",  # what `make test` on a page runs here
    }
    run(["bash", "-s"], on_free_ports(shell_program(page, blocks)), clone, {**environment, **settings})


def of_the_map() -> list[str]:
    found = re.findall(r"\]\(([^)#]+\.md)\)", MAP.read_text())
    return sorted({str((MAP.parent / name).resolve().relative_to(ROOT)) for name in found} - NOTHING_TO_RUN)


@pytest.mark.parametrize("name", of_the_map())
def test_each_page_of_the_map_is_run(name: str) -> None:
    here = [block for block in blocks_of((ROOT / name).read_text()) if block.language in ("python", *SHELL)]
    assert bool(here) is (name not in RUN_BY), "either it has a block that runs, or RUN_BY says what runs it"


@pytest.mark.parametrize(("name", "runner"), RUN_BY.items())
def test_what_runs_a_page_that_is_not_run_here_does(name: str, runner: str) -> None:
    text = (ROOT / runner).read_text()
    commands = [line for found in FENCE.finditer((ROOT / name).read_text()) for line in found["source"].splitlines()]
    assert Path(name).name in text or [line for line in commands if line not in text] == []


def test_a_marked_block_is_left_out_and_others_are_not() -> None:
    page = "text\n\n```python\none\n```\n\n<!-- not run: needs a key -->\n```python\ntwo\n```\n\n```sh\nthree\n```\n"
    assert list(blocks_of(page)) == [Block("python", "one\n", 4), Block("sh", "three\n", 13)]


def test_a_marker_needs_a_reason() -> None:
    assert list(blocks_of("<!-- not run: -->\n```sh\nrm x\n```\n")) == [Block("sh", "rm x\n", 3)]


def test_the_commands_of_a_console_block_are_what_follows_the_prompt() -> None:
    block = Block("console", "$ echo hi\nhi\n$ true\n", 1)
    assert shell_program(ROOT / "README.md", [block]).endswith("where=README.md:1\necho hi\ntrue\n")


def test_a_failing_block_is_named(tmp_path: Path) -> None:
    blocks = [Block("sh", "true\n", 3), Block("sh", "true\nfalse\n", 9)]
    with pytest.raises(AssertionError, match=r"failed at README\.md:9"):
        run(["bash", "-s"], shell_program(ROOT / "README.md", blocks), tmp_path, dict(os.environ))
