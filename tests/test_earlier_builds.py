"""`python -m benchmarks --against REV`: this tree's rows on its own packages and on those of another revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from benchmarks import against, builds, rows
from benchmarks.__main__ import main
from benchmarks.builds import Build, NoBuild
from benchmarks.environments import Environment
from benchmarks.results import Result

ROOT = Path(__file__).parents[1]


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    command = ("git", "-C", repository, *identity, *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first revision has no packages, and whose second has those that rows need."""
    root = tmp_path / "clone"
    for name, folder in (("none", root), ("core", root), ("openai", root / "instrumentors" / "spanrelay-openai")):
        folder.mkdir(parents=True, exist_ok=True)
        if name == "none":
            git(root, "init", "--quiet", "--initial-branch=main")
            (root / "README.md").write_text("nothing yet\n")
            git(root, "add", ".")
            git(root, "commit", "--quiet", "-m", "Begin")
            git(root, "tag", "empty")
        else:
            (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    (root / "constraints.txt").write_text("openai==3.57.0\n")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Bring packages")
    monkeypatch.setattr(builds, "ROOT", root)
    monkeypatch.setattr(builds, "CACHE", tmp_path / "cache")
    return root


def test_an_unknown_revision_gives_one_sentence(repository: Path) -> None:
    with pytest.raises(NoBuild) as refused:
        builds.of_revision("no-such-tag")
    assert str(refused.value) == "git knows no revision 'no-such-tag' here; expected a commit, a tag or a branch"


def test_a_revision_that_looks_like_an_option_is_only_unknown(repository: Path) -> None:
    with pytest.raises(NoBuild, match="git knows no revision '--all' here"):
        builds.of_revision("--all")


def test_a_revision_without_packages_gives_one_sentence(repository: Path) -> None:
    with pytest.raises(NoBuild) as refused:
        builds.of_revision("empty")
    commit = git(repository, "rev-parse", "empty")[:9]
    assert str(refused.value) == (
        f"revision 'empty' ({commit}) cannot be measured: "
        "it has no pyproject.toml and no instrumentors/spanrelay-openai/pyproject.toml"
    )


def test_the_command_says_so_and_ends(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--against", "no-such-tag", "tool"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("expected a commit, a tag or a branch")


def test_the_files_of_a_revision_are_kept_by_its_commit_and_not_made_again(repository: Path) -> None:
    build = builds.of_revision("main")
    tree = build.environment.tree
    assert tree.parent.name == build.commit[:12] == git(repository, "rev-parse", "main")[:12]
    assert (tree / "instrumentors" / "spanrelay-openai" / "pyproject.toml").exists()
    (tree / "kept").touch()
    assert (builds.of_revision("main").environment.tree / "kept").exists()
    assert [each.name for each in tree.parent.iterdir()] == ["tree"]
    assert git(repository, "worktree", "list").count("\n") == 0


def test_only_packages_that_a_revision_has_are_installed(repository: Path) -> None:
    assert builds.of_revision("HEAD").environment.editable == (".", "instrumentors/spanrelay-openai")


def test_both_builds_are_held_to_this_trees_versions_of_other_packages(repository: Path) -> None:
    old, new = builds.of_revision("HEAD").environment, builds.this_tree().environment
    assert old.requirements == new.requirements
    assert old.constraints == new.constraints == repository / "constraints.txt"
    assert old.directory != new.directory


def test_changes_that_are_not_committed_are_said(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")[:9]
    assert builds.this_tree().title == f"this tree ({commit})"
    (repository / "README.md").write_text("something\n")
    assert builds.this_tree().title == f"this tree ({commit}, with changes that are not committed)"


@dataclass(frozen=True)
class Turns(Environment):
    """An environment in which turns print what was written beforehand."""

    printed: list[dict[str, object]] = field(default_factory=list[dict[str, object]], hash=False)

    def run(self, *arguments: object, **options: object) -> str:
        return json.dumps({"tree": str(self.tree), **self.printed.pop(0)})


def build(title: str, *printed: dict[str, object]) -> Build:
    return Build(title, "0" * 40, Turns(title, (), printed=list(printed)))


def cost(value: float, floor: float | None = 50.0, figure: str = "CPU") -> dict[str, object]:
    return {"results": [Result("chat", figure, "µs", value, floor=floor).to_json()]}


def compared(old: Build, new: Build) -> against.Comparison:
    return against.compare(old, new, ["chat-1k"], quick=True)


def test_a_ratio_is_that_of_each_turn_so_that_a_slow_minute_cancels_out() -> None:
    found = compared(build("before", cost(100.0), cost(300.0)), build("after", cost(50.0), cost(150.0)))
    (figure,) = found.figures
    assert figure.ratio is not None
    assert (figure.ratio.value, figure.ratio.error) == (0.5, 0.0)
    assert "| chat | CPU    | 200 µs | 100 µs | 0.50 ± 0.00 | 4.00        | 2.00        |" in against.report(found)


def test_a_figure_that_names_what_it_was_measured_on_is_the_same_in_both_builds() -> None:
    before, after = "wall, on 5.8 ms", "wall, on 6.1 ms"
    old = build("before", *[cost(30.0, None, before)] * 2)
    new = build("after", *[cost(15.0, None, after)] * 2)
    assert [figure.key for figure in compared(old, new).figures] == [("chat", "wall")]


def test_what_was_nothing_before_has_no_ratio() -> None:
    found = compared(build("before", cost(0.0), cost(-1.0)), build("after", cost(1.0), cost(1.0)))
    assert found.figures[0].ratio is None
    assert found.to_json()["figures"][0]["ratio"] is None


def test_what_the_old_build_has_not_is_missing_and_not_failed() -> None:
    lacks: dict[str, object] = {"missing": "AttributeError: no such thing"}
    found = compared(build("before", lacks), build("after", cost(1.0)))
    assert (found.missing, found.failures) == ({"chat-1k": "AttributeError: no such thing"}, {})
    assert "missing in before: chat-1k: AttributeError: no such thing" in against.report(found)


def test_what_this_tree_has_not_is_a_failure() -> None:
    lacks: dict[str, object] = {"missing": "AttributeError: no such thing"}
    found = compared(build("before", cost(1.0)), build("after", lacks))
    assert (found.missing, found.failures) == ({}, {"chat-1k": "AttributeError: no such thing"})


def test_an_environment_with_the_packages_of_another_tree_is_not_believed() -> None:
    found = compared(build("before", cost(1.0)), build("after", {**cost(1.0), "tree": "/elsewhere"}))
    assert found.failures["chat-1k"].startswith("the environment of after has the packages of '/elsewhere'")


def test_rows_are_imported_only_when_they_run() -> None:
    code = "import sys; sys.modules['spanrelay'] = None; import benchmarks.__main__, benchmarks.turn"
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("row", rows.ROWS)
def test_every_row_stands_where_its_name_says(row: str) -> None:
    module, _, function = rows.ROWS[row].partition(":")
    assert f"\ndef {function}(effort: Effort)" in (ROOT / "benchmarks" / f"{module}.py").read_text()


@pytest.mark.slow
def test_a_revision_is_measured_beside_this_tree_by_its_own_packages(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone))
    now = git(clone, "rev-parse", "HEAD")
    git(clone, "rm", "-r", "--quiet", "instrumentors/spanrelay-langgraph", "benchmarks")
    git(clone, "commit", "--quiet", "-m", "Stand where graphs and benchmarks are not written yet")
    git(clone, "tag", "before")
    git(clone, "checkout", "--quiet", now)
    cache = subprocess.run((sys.executable, "-m", "pip", "cache", "dir"), check=True, capture_output=True, text=True)
    variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PIP_CACHE_DIR": cache.stdout.strip()}
    command = (sys.executable, "-m", "benchmarks", "--against", "before", "--quick", "--json", "found.json")
    done = subprocess.run(
        (*command, "tool", "node"), cwd=clone, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((clone / "found.json").read_text())
    assert [(figure["row"], figure["figure"]) for figure in found["figures"]] == [
        ("managed tool call", "wall"),
        ("managed tool call", "CPU"),
    ]
    assert all(len(figure[side]) == 2 for figure in found["figures"] for side in ("old", "new"))
    assert all(turn["floor"] is not None for figure in found["figures"] for turn in figure["old"])
    assert found["missing"] == {"node": "ModuleNotFoundError: No module named 'spanrelay_langgraph'"}
    assert found["failures"] == {}
    assert "| managed tool call | wall   |" in done.stdout and "missing in before" in done.stdout
