"""What is supported is said alike by an instrumentor, its README, its project and the environments of the oldest."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.oldest.environments import ELSEWHERE, ENVIRONMENTS, canonical, instrumentors, is_version, lowest_of
from tests.own_environment import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = instrumentors()
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def folder_of(kind: Any) -> Path:
    return ROOT / "instrumentors" / kind.__module__.partition(".")[0].replace("_", "-")


@each_kind
def test_its_readme_names_the_oldest_version(kind: Any) -> None:
    package, lowest = lowest_of(*kind.requires)
    text = (folder_of(kind) / "README.md").read_text()
    row = re.search(rf"^\| \[{re.escape(package)}\]\([^)]*\) \| >= ([\d.]+) \|", text, re.MULTILINE)
    said = row or re.search(r"([\d.]*\d)\s+and\s+newer", text.partition("\n## ")[0])
    assert said is not None
    assert said[1] == lowest


@each_kind
def test_its_project_names_the_same_range(kind: Any) -> None:
    project = tomllib.loads((folder_of(kind) / "pyproject.toml").read_text())["project"]
    assert kind.requires[0] in project["optional-dependencies"]["instruments"]


@each_kind
def test_the_oldest_version_stands_in_an_environment(kind: Any) -> None:
    package, lowest = lowest_of(*kind.requires)
    if package in ELSEWHERE:
        assert folder_of(kind).name == ELSEWHERE[package]
        return
    [environment] = [each for each in ENVIRONMENTS if package in each.sdks]
    assert is_version(environment.pins[canonical(package)], lowest)
    assert folder_of(kind).name.removeprefix("spanrelay-") in environment.ours


def test_every_instrumentor_is_looked_at() -> None:
    folders = {each.name for each in (ROOT / "instrumentors").iterdir() if (each / "pyproject.toml").exists()}
    assert {folder_of(kind).name for kind in KINDS} == folders
