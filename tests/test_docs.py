"""What README and docs tell the reader to type works: every code block of a page runs, in order, as one program.

A block that cannot run has `<!-- not run: the reason -->` on the line before it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spanrelay_testkit.exchange import Answer, Request
from spanrelay_testkit.model_scripts import echo, weather
from spanrelay_testkit.model_server import ModelServer

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("instrumentors/*/README.md")])
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


def model(request: Request) -> Answer:
    """The model of the docs: the weather agent's where tools are offered, else an echo."""
    return weather(request) if request.get("tools") else echo(request)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A reader's environment: a model to talk to, and nothing of ours set."""
    ours = ("OTEL_", "SPANRELAY_", "OPENAI_", "PIP_", "MAKE", "MFLAGS")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with ModelServer(model) as server:
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
    """One script, in which a failure names the line of the page."""
    lines = ["set -eu", "trap 'echo \"failed at $where\" >&2' ERR", "set -E"]
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


@pytest.mark.slow
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs to run from a virtual environment")
@pytest.mark.parametrize(("page", "blocks"), pages_with(*SHELL))
def test_commands_of_a_page_run(page: Path, blocks: list[Block], environment: dict[str, str], tmp_path: Path) -> None:
    clone = tmp_path / "spanrelay"
    shutil.copytree(ROOT, clone, ignore=LEFT_OUT)
    shutil.copy(ROOT / "examples" / "weather_agent.py", clone / "app.py")
    programs = programs_for(blocks, tmp_path / "programs")
    settings = {
        "PATH": f"{programs / 'bin'}{os.pathsep}{environment['PATH']}",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "VENV": str(programs),
        "TESTS": "tests/test_public_names.py",  # what `make test` on a page runs here
    }
    run(["bash", "-s"], shell_program(page, blocks), clone, {**environment, **settings})


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
