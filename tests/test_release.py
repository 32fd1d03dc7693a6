"""What is released is whole, and each fault that would make it otherwise is named."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from spanrelay_testkit.release.building import Built, build
from spanrelay_testkit.release.contents import faults_of
from spanrelay_testkit.release.projects import Project, projects, write_version

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is read of a clone: the core and one instrumentor."""
    for path in ("pyproject.toml", "hatch_build.py", "LICENSE", "README.md", "src/spanrelay/__init__.py"):
        target = tmp_path / "clone" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
    (target.parent / "py.typed").touch()
    name = Path("instrumentors", "spanrelay-ollama")
    shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    shutil.copytree(ROOT / "testkit", tmp_path / "clone" / "testkit", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "clone"


def ollama(clone: Path) -> Project:
    [found] = [each for each in projects(clone) if each.name == "spanrelay-ollama"]
    return found


def test_every_distribution_of_this_clone_has_one_version_and_its_types() -> None:
    found = projects(ROOT)
    assert len(found) == 1 + len(list((ROOT / "instrumentors").iterdir()))
    assert all(f"{each.package.name}/py.typed" in each.files for each in found)


def test_another_version_is_written_into_all_of_them_at_once(clone: Path) -> None:
    changed = write_version(clone, "0.2.0")
    assert {each.version for each in projects(clone)} == {"0.2.0"}
    assert '"spanrelay == 0.2.0"' in (clone / "instrumentors/spanrelay-ollama/pyproject.toml").read_text()
    assert len(changed) == 6 - 1  # the testkit, which is not released, says its version once
    assert write_version(clone, "0.2.0") == []


@pytest.mark.parametrize(
    ("path", "before", "after", "said"),
    [
        ("src/spanrelay_ollama/__init__.py", '"0.1.0"', '"0.0.9"', "says version 0.0.9; expected '0.1.0'"),
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"', "says version 0.2.0; expected '0.1.0'"),
        ("pyproject.toml", '"spanrelay == 0.1.0"', '"spanrelay"', 'must depend on "spanrelay == 0.1.0"'),
    ],
)
def test_a_version_that_differs_is_named_with_its_file(
    path: str, before: str, after: str, said: str, clone: Path
) -> None:
    file = clone / "instrumentors" / "spanrelay-ollama" / path
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(SystemExit, match=said) as raised:
        projects(clone)
    assert str(file) in str(raised.value)


def test_what_is_built_has_the_package_its_types_its_licence_and_nothing_else(clone: Path, tmp_path: Path) -> None:
    built = build(ollama(clone), tmp_path / "dist", ROOT / "LICENSE")
    assert faults_of(built) == []
    with zipfile.ZipFile(built.wheel) as wheel:
        [licence] = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_what_is_missing_or_too_much_is_named(clone: Path, tmp_path: Path) -> None:
    project = ollama(clone)
    (project.package / "py.typed").unlink()
    built = build(project, tmp_path / "dist", ROOT / "LICENSE")
    with zipfile.ZipFile(built.wheel, "a") as wheel:
        wheel.writestr("tests/test_x.py", "")
    (project.package / "new.py").touch()
    faults = faults_of(Built(project, built.wheel, built.sdist))
    name = built.wheel.name
    assert faults == [
        f"{name}: lacks spanrelay_ollama/new.py",
        f"{name}: has tests/test_x.py, which is not a file of the package",
        f"{name}: lacks spanrelay_ollama/py.typed, so that nobody sees its types",
        f"{built.sdist.name}: lacks src/spanrelay_ollama/new.py",
    ]


def test_the_core_asks_by_name_for_what_a_clone_has_beside_it(clone: Path, tmp_path: Path) -> None:
    core = projects(clone)[0]
    built = build(core, tmp_path / "dist", ROOT / "LICENSE")
    assert faults_of(built) == []
    with zipfile.ZipFile(built.wheel) as wheel:
        told = wheel.read(f"spanrelay-{core.version}.dist-info/METADATA").decode()
    assert "Requires-Dist: spanrelay-ollama; extra == 'ollama'" in told
