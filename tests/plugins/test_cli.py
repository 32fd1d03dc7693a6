"""`spanrelay plugins` says what is installed and what files would put in force, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.installed import distribution, on_path

from spanrelay import config
from spanrelay.cli import main, printing
from spanrelay.pipeline.middleware import registered

SOURCE = '''
from dataclasses import dataclass, field
from spanrelay.plugins import Secret


@dataclass
class Config:
    words: list[str] = field(default_factory=list)
    key: Secret | None = None
    token: str = ""


class Words:
    """Refuses words."""

    name = "words"
    config_model = Config

    def validate(self, config):
        return []

    def register(self, context):
        raise AssertionError("looking puts nothing in force")
'''


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "etc.toml"))
    monkeypatch.setattr(printing, "find_spec", lambda name: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.delenv("SPANRELAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    entry_points = "[spanrelay_plugin]\nwords = words:Words\n"
    with on_path(distribution(tmp_path / "site", "words-plugin", "words", SOURCE, entry_points)):
        yield
    assert registered.entries == ()


def shown(capsys: Any, *arguments: str) -> tuple[int, list[str], str]:
    status = main(["plugins", *arguments])
    captured = capsys.readouterr()
    return status, captured.out.replace(f"{Path.cwd()}/", "").splitlines(), captured.err


def test_installed_plugins_are_listed(capsys: Any) -> None:
    status, lines, _ = shown(capsys, "list")
    assert status == 0
    assert "words (words-plugin 1.0): Refuses words." in lines
    assert any(line.startswith("policy (spanrelay 0.1.0): ") for line in lines)


def test_a_plugin_that_cannot_be_loaded_is_listed_as_a_fault(capsys: Any, tmp_path: Path) -> None:
    entry_points = "[spanrelay_plugin]\ngone = gone:Gone\nwords = words:Words\n"
    with on_path(distribution(tmp_path / "more", "more", "more", "", entry_points)):
        status, lines, _ = shown(capsys, "list")
    assert status == 1
    assert any(line.startswith("gone: cannot be loaded: ModuleNotFoundError") for line in lines)
    assert "words: several plugins have this name: words:Words, words:Words; uninstall all but one" in lines


def test_without_a_file_there_is_nothing_to_say(capsys: Any) -> None:
    assert shown(capsys, "validate") == (0, ["no configuration file"], "")
    assert shown(capsys, "show") == (0, [], "")


def test_a_good_file_is_valid(capsys: Any) -> None:
    Path("spanrelay.toml").write_text('[plugins.words]\nwords = ["a"]')
    assert shown(capsys, "validate") == (0, ["spanrelay.toml: valid"], "")


def test_everything_wrong_is_said(capsys: Any) -> None:
    Path("other.toml").write_text('[plugins.words]\nword = 1\nkey = 2\n[plugins."\\u001b[2J"]')
    status, lines, _ = shown(capsys, "validate", "other.toml")
    assert status == 1
    assert [line.partition("; install")[0] for line in lines] == [
        "error: other.toml: plugins.words.word: is not known; did you mean 'words'?",
        "error: other.toml: plugins.words.key: is a whole number; write text",
        'error: other.toml: plugins."\\u001b[2J": no installed plugin has this name',
    ]


def test_what_is_put_in_force_is_shown_in_order_and_without_secrets(capsys: Any) -> None:
    Path("etc.toml").write_text('[plugins.policy]\ntools.deny = ["delete_*"]')
    Path("mine.toml").write_text('[policy]\non_failure = "warn"\n[plugins.words]\nkey = "k"\ntoken = "a ${TOKEN}"')
    status, lines, err = shown(capsys, "show", "mine.toml")
    assert (status, err) == (0, "")
    assert lines == [
        "etc.toml  on failure: stop",
        "└── policy",
        "    ├── tools.deny = ['delete_*']",
        "    ├── tools.offered = 'pass'",
        "    ├── tools.refused = 'raise'",
        "    ├── tools.unseen = 'refuse'",
        "    ├── tools.unnamed = 'refuse'",
        "    └── on_unguarded = 'warn'",
        "mine.toml  on failure: warn",
        "└── words",
        "    ├── key = Secret('…')",
        "    └── token = 'a …'",
    ]


def test_what_cannot_be_shown_is_said_beside_it(capsys: Any) -> None:
    Path("spanrelay.toml").write_text("[plugins.words]\n[plugins.none]")
    status, lines, err = shown(capsys, "show")
    assert (status, lines[1]) == (1, "└── words")
    assert "plugins.none: no installed plugin has this name" in err
