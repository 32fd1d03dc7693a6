"""`spanrelay plugins` says what is installed and what files would put in force, and what is wrong with them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.installed import distribution, on_path

from spanrelay.cli import main, printing
from spanrelay.pipeline.middleware import registered
from spanrelay.plugins import published_prices

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
    monkeypatch.setattr("spanrelay.config.files.SYSTEM_FILE", str(tmp_path / "etc.toml"))
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


OURS = (
    "agent_hooks",
    "fallback",
    "hints",
    "nemo_guardrails",
    "pii_redaction",
    "policy",
    "pricing",
    "prompt_cache",
    "response_cache",
    "tool_cache",
)


def test_installed_plugins_are_listed(capsys: Any) -> None:
    Path("spanrelay.toml").write_text('[policy]\nmode = "observe"\n[plugins.words]\n[plugins.pricing]\nsource = 1')
    status, lines, err = shown(capsys, "list")
    rows = [re.split("  +", line) for line in lines]
    assert rows[0] == ["name", "version", "from", "enabled", "what it does"]
    assert rows[-1] == ["words", "1.0", "words-plugin", "on trial", "Refuses words."]
    assert [row[:3] for row in rows[1:-1]] == [[name, version("spanrelay"), "spanrelay"] for name in OURS]
    assert [row[3] for row in rows[1:-1]] == ["error" if name == "pricing" else "no" for name in OURS]
    # Published prices, which a catalogue takes where none is named, are in a package that Python 3.10 has none of.
    errors = "1 error" if published_prices.is_installed() else "2 errors"
    assert (status, err) == (1, f"spanrelay: {errors} in the configuration files: `spanrelay plugins validate`\n")
    assert "spanrelay_plugin" not in "".join(lines)


class Terminal(io.StringIO):
    """A terminal of `COLUMNS` columns."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("action", ["list", "validate"])
@pytest.mark.parametrize("width", [40, 84])
def test_a_narrow_terminal_shows_all_within_its_width(
    width: int, action: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_points = "[spanrelay_plugin]\nrefuses_words_of_the_company = acme:Words\n"
    acme = distribution(tmp_path / "acme", "acme-company-wide-plugins-for-agents", "acme", SOURCE, entry_points)
    terminal = Terminal()
    with on_path(acme):
        main(["plugins", action])
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", terminal)
        main(["plugins", action])
    table = terminal.getvalue().partition("in force:")[0]
    assert max(map(len, table.splitlines())) <= width
    assert sorted("".join(terminal.getvalue().split())) == sorted("".join(capsys.readouterr().out.split()))


def test_a_plugin_that_cannot_be_loaded_is_listed_as_a_fault(capsys: Any, tmp_path: Path) -> None:
    entry_points = "[spanrelay_plugin]\ngone = gone:Gone\nwords = words:Words\n"
    with on_path(distribution(tmp_path / "more", "more", "more", "", entry_points)):
        status, lines, _ = shown(capsys, "list")
    assert status == 1
    told = [" ".join(line.split()) for line in lines]
    assert any(line.startswith("gone 1.0 more error cannot be loaded: ModuleNotFoundError") for line in told)
    assert "words error several plugins have this name: words:Words, words:Words; uninstall all but one" in told


def looked(lines: list[str]) -> list[tuple[str, ...]]:
    """The table of places that `validate` prints."""
    table = lines[: next(at for at, line in enumerate(lines) if line.startswith(("error", "warning", "in force")))]
    return [tuple(re.split("  +", line)) for line in table]


def test_without_a_file_nothing_is_in_force_and_every_place_is_named(capsys: Any) -> None:
    status, lines, err = shown(capsys, "validate")
    assert (status, lines[-1], err) == (0, "in force: nothing", "")
    assert looked(lines) == [
        ("place", "file", "state"),
        ("the machine", "etc.toml", "not there"),
        ("SPANRELAY_CONFIG", "not set"),
        ("the working directory", "spanrelay.toml", "not there"),
        ("the user", "spanrelay/spanrelay.toml", "not there"),
        ("OTEL_CONFIG_FILE", "not set"),
    ]
    assert shown(capsys, "show") == (0, [], "")


def test_what_is_read_is_valid_and_what_is_passed_over_says_why(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("more.toml").write_text('[plugins.words]\nwords = ["b"]')
    Path("mine.toml").write_text('include = ["more.toml"]\n[plugins.words]\nmode = "observe"')
    Path("spanrelay.toml").write_text("[plugins.words]")
    Path("otel.yaml").write_text("file_format: '1.0'")
    monkeypatch.setenv("SPANRELAY_CONFIG", "mine.toml")
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    status, lines, _ = shown(capsys, "validate")
    assert (status, lines[-1]) == (0, "in force: words, words-2 (on trial)")
    assert looked(lines)[2:] == [
        ("SPANRELAY_CONFIG", "mine.toml", "valid"),
        ("the working directory", "spanrelay.toml", "not read, since SPANRELAY_CONFIG has one"),
        ("the user", "spanrelay/spanrelay.toml", "not there"),
        ("OTEL_CONFIG_FILE", "otel.yaml", "does not mention spanrelay"),
        ("include", "more.toml", "valid"),
    ]


def test_what_a_plugin_itself_finds_is_told_beside_what_is_misread(capsys: Any) -> None:
    Path("other.toml").write_text(
        '[plugins.policy]\ntools = 1\nmode = "observ"\napproval.url = "ftp://x"\napproval.timeout = "1"\n'
        '[plugins.pii_redaction]\nmarks = "x"\nprofiles = []\n'
    )
    status, lines, _ = shown(capsys, "validate", "other.toml")
    assert status == 1
    assert [line.split(": ")[2:4] for line in lines if line.startswith("error")] == [
        ["plugins.policy.mode", "is not one of the choices; did you mean 'observe'?"],
        ["plugins.policy.tools", "is a whole number; write a table"],
        ["plugins.policy.approval.timeout", "is text; write a number without quotes"],
        ["plugins.policy.approval.url", "is not a URL that can be called; write one with http:// or https://"],
        ["plugins.pii_redaction.marks", "is not known; did you mean 'mark'?"],
        [
            "plugins.pii_redaction.profiles",
            "has no rule; write [[plugins.pii_redaction.profiles]] with an action and a detector",
        ],
    ]
    assert lines[-1] == "in force: nothing, a program would stop here: 6 errors"


def test_what_is_left_out_is_counted_where_a_warning_is_enough(capsys: Any) -> None:
    Path("other.toml").write_text('[policy]\non_failure = "warn"\n[plugins.words]\n[plugins.none]')
    assert shown(capsys, "validate", "other.toml")[1][-1] == "in force: words; left out: 1 error"


def test_everything_wrong_is_said(capsys: Any) -> None:
    Path("other.toml").write_text('[plugins.words]\nword = 1\nkey = 2\n[plugins."\\u001b[2J"]')
    status, lines, _ = shown(capsys, "validate", "other.toml")
    assert status == 1
    assert [line.partition("; install")[0] for line in lines if line.startswith("error")] == [
        "error: other.toml: plugins.words.word: is not known; did you mean 'words'?",
        "error: other.toml: plugins.words.key: is a whole number; write text in quotes",
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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[plugin.words]", "plugin: is not known; did you mean 'plugins'?"),
        ("deny = ['x']", "deny: is not known; write it below [plugins.<name>]; at the top there are only include, "),
        ("[plugins.words]\nwords = [a*]", "is not TOML: Invalid value (at line 2, column 10); put text in quotes; "),
        ("[plugins.words]\n[plugins.words]", "(at line 2, column 15); it is there twice: remove one"),
        ("[plugins.words]\nwords = ['a']\nwords = ['b']", "; it is there twice: remove one"),
        (
            "plugins:\n  words: {}",
            "is not TOML: Expected '=' after a key in a key/value pair (at line 1, column 8); fix ",
        ),
        ("[plugins.words]\nwords = 'a'", 'plugins.words.words: is text; write a list of text, as in ["…"]'),
        ("[plugins.words]\nenabled = 'yes'", "plugins.words.enabled: is text; write true or false without quotes"),
        (
            "[plugins.word]",
            "no installed plugin has this name; did you mean 'words'? If not, install the package that ",
        ),
        (
            "[plugins.zzz]",
            "no installed plugin has this name; install the package that has it; installed: agent_hooks, fallback, ",
        ),
        ("[plugins.pii_redaction.profiles]", "is a table; write a list: [[plugins.pii_redaction.profiles]]"),
        (
            "include = ['a.toml']",
            "cannot be read: No such file or directory, which 'FOLDER/mine.toml' includes; create it, ",
        ),
    ],
)
def test_a_first_mistake_is_told_with_what_to_write(content: str, told: str, capsys: Any) -> None:
    Path("mine.toml").write_text(content)
    status, lines, _ = shown(capsys, "validate", "mine.toml")
    [error] = [line for line in lines if line.startswith("error")]
    assert (status, told.replace("FOLDER/", "") in error) == (1, True), error


def test_a_key_that_lacks_its_variable_is_told_of_once(capsys: Any) -> None:
    Path("mine.toml").write_text('[plugins.policy]\ntools.deny = ["x"]\napproval.url = "${NO_SUCH_NAME}"')
    _, lines, _ = shown(capsys, "validate", "mine.toml")
    assert [line.partition("approval.url: ")[2] for line in lines if line.startswith("error")] == [
        "needs the variable NO_SUCH_NAME, which is not set; set it, or ${NO_SUCH_NAME:-…}"
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('parameters."gpt*".temperature = "0"', 'parameters."gpt*".temperature: is text; write a number'),
        ('counts.path = "counts.db"\nsession.max_calls = "5"', "session.max_calls: is text; write a whole number"),
    ],
)
def test_what_follows_from_a_misread_key_is_not_told_of(content: str, told: str, capsys: Any) -> None:
    Path("mine.toml").write_text(f"[plugins.policy]\n{content}")
    _, lines, _ = shown(capsys, "validate", "mine.toml")
    found = [line for line in lines if line.startswith(("error", "warning")) and "mine.toml" in line]
    assert found == [f"error: mine.toml: plugins.policy.{told} without quotes"]
