"""`spanrelay setup` says which packages record what is here, or what a file asks for, and installs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from tests.doctor.doctors import outside, packages_without

from spanrelay.cli import main
from spanrelay.providers import FRAMEWORKS

PYPROJECT = """
[project]
name = "app"
dependencies = ["openai>=2", "requests"]
[project.optional-dependencies]
agents = ["LangGraph ~= 1.0", "crewai[tools]"]
[dependency-groups]
dev = ["groq", {include-group = "other"}]
[tool.poetry.dependencies]
python = "^3.11"
anthropic = "^0.50"
[tool.poetry.group.more.dependencies]
cohere = {version = "*"}
"""

LOCK = """
version = 1
[[package]]
name = "openai"
version = "2.1.0"
[[package]]
name = "spanrelay-openai"
version = "0.1.0"
[[package]]
name = "langchain-core"
version = "1.4.0"
"""

LIST = """\
# what the app needs
openai==2.1.0 \\
    --hash=sha256:0000
-r more.txt
-c constraints.txt
mcp ; python_version >= "3.10"  # a comment
./a-folder
git+https://example.com/x.git
--index-url https://example.com/simple
"""


def setup(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["setup", *map(str, arguments)])
    return status, capsys.readouterr().out


def missing(text: str) -> list[str]:
    """What the last line would install."""
    line = text.splitlines()[-1]
    return line.removeprefix("pip install ").split() if line.startswith("pip install ") else []


def test_this_environment_has_all_that_records_it(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = setup(capsys)
    assert (status, told.splitlines()[-1]) == (0, "nothing is missing")
    rows = {line.split()[0]: line for line in told.splitlines()[1:-1]}
    assert "spanrelay-langchain, spanrelay-langgraph" in rows["langgraph"] and rows["openai"].endswith("installed")


def test_what_opentelemetry_bootstrap_would_install_beside_ours_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bootstrap = str(Path(sys.executable).parent / "opentelemetry-bootstrap")
    ran = subprocess.run([bootstrap, "-a", "requirements"], capture_output=True, text=True, timeout=60, check=True)
    theirs = "opentelemetry-instrumentation-openai-v2"
    assert theirs in ran.stdout.split(), "it looks at this environment, which has openai"
    assert "spanrelay" not in ran.stdout, "it has one table, and nobody can add to it"
    [told] = [line for line in setup(capsys)[1].splitlines() if "opentelemetry-bootstrap" in line]
    assert told == (
        f"opentelemetry-bootstrap would add {theirs}, which records what spanrelay-openai records; "
        "SpanRelay leaves its spans out"
    )
    (file := tmp_path / "requirements.txt").write_text("boto3\nrequests\n")
    [told] = [line for line in setup(capsys, "--requirements", file)[1].splitlines() if "bootstrap" in line]
    assert "opentelemetry-instrumentation-botocore" in told and "spanrelay-bedrock" in told
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=botocore" in told


def test_each_package_of_others_on_the_page_of_frameworks_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
    known = {each.instrumentor for each in FRAMEWORKS if not each.instrumentor.startswith("spanrelay")}
    assert set(re.findall(r"openinference-instrumentation-[a-z-]+", page)) == known


def test_a_project_is_read_with_its_extras_and_groups(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (file := tmp_path / "pyproject.toml").write_text(PYPROJECT)
    status, told = setup(capsys, "--requirements", file)
    assert status == 1
    assert missing(told) == [
        "spanrelay-openai",
        "spanrelay-anthropic",
        "spanrelay-cohere",
        "spanrelay-openai-compatible",
        "spanrelay-langchain",
        "spanrelay-langgraph",
        "openinference-instrumentation-crewai",
    ]


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock"])
def test_a_lock_file_is_read_and_what_it_has_is_not_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (file := tmp_path / name).write_text(LOCK)
    status, told = setup(capsys, "--requirements", file)
    assert (status, missing(told)) == (1, ["spanrelay-langchain"])
    assert "2.1.0" in told


def test_a_list_of_requirements_is_read_with_those_that_it_includes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (file := tmp_path / "requirements.txt").write_text(LIST)
    (tmp_path / "more.txt").write_text("groq\n-r requirements.txt\n")
    (tmp_path / "constraints.txt").write_text("anthropic==1\n")
    _, told = setup(capsys, "--requirements", file)
    assert missing(told) == ["spanrelay-openai", "spanrelay-openai-compatible", "spanrelay-mcp"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("requirements.txt", None, "cannot be read: No such file"),
        ("pyproject.toml", "[project", "is not TOML"),
        ("uv.lock", "package = 3", "is not a uv.lock"),
        ("requirements.txt", "\x00\x01 nonsense ===\n", "no SDK and no framework"),
    ],
)
def test_a_file_that_is_not_one_of_these_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    status = main(["setup", "--requirements", str(tmp_path / name)])
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
    assert status == (0 if "nonsense" in (text or "") else 1)


def wheel(folder: Path, name: str) -> None:
    """Write a wheel of a distribution that has nothing but its name."""
    info = f"{name.replace('-', '_')}-0.1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-0.1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


def test_what_is_missing_is_installed_into_this_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    [packages] = (tmp_path / "env" / "lib").glob("python*/site-packages")
    packages_without(packages, "spanrelay_")
    (links := tmp_path / "links").mkdir()
    (tmp_path / "requirements.txt").write_text("groq\n")
    wheel(links, "spanrelay-openai-compatible")
    python = str(tmp_path / "env" / "bin" / "python")
    ran = subprocess.run(
        [python, "-m", "spanrelay", "setup", "--requirements", "requirements.txt", "--install"],
        cwd=tmp_path,
        env=outside(
            tmp_path,
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=str(links),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            UV_NO_INDEX="1",
            UV_FIND_LINKS=str(links),
            UV_OFFLINE="1",
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "pip install spanrelay-openai-compatible" in ran.stdout
    assert (packages / "spanrelay_openai_compatible-0.1.0.dist-info" / "METADATA").is_file()
    assert os.path.islink(packages / "opentelemetry"), "nothing else was touched"
