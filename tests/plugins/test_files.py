"""`spanrelay.toml`: which files count, in which order, and what each may say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from spanrelay.config import PolicyFile, policy_files
from spanrelay.plugins.files import Layer, read_layers


@pytest.fixture(autouse=True)
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no file of the system's."""
    monkeypatch.setattr("spanrelay.config.files.SYSTEM_FILE", str(tmp_path / "etc" / "spanrelay.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(text: str, origin: Any = "chosen", **above: str) -> tuple[list[Layer], list[str]]:
    """The layers of a file with `text`, and what is wrong, without the folder."""
    folder = Path.cwd()
    files = [PolicyFile(str(write(folder / f"{name}.toml", text)), "system") for name, text in above.items()]
    layers, found = read_layers([*files, PolicyFile(str(write(folder / "spanrelay.toml", text)), origin)])
    return layers, [str(diagnostic).replace(f"{folder}/", "") for diagnostic in found]


def test_without_files_there_is_none() -> None:
    assert policy_files("", {"XDG_CONFIG_HOME": "nowhere"}) == []


def test_the_nearest_file_counts_and_the_systems_is_above_it(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    user = PolicyFile(str(write(tmp_path / "home" / "spanrelay" / "spanrelay.toml", "")), "user")
    assert policy_files("", environment) == [user]
    here = PolicyFile(str(write(tmp_path / "spanrelay.toml", "")), "directory")
    assert policy_files("", environment) == [here]
    chosen = PolicyFile(str(tmp_path / "chosen.toml"), "chosen")
    assert policy_files("chosen.toml", environment) == [chosen]
    named = {**environment, "SPANRELAY_CONFIG": "chosen.toml"}
    assert policy_files("", named) == [chosen]  # settings that are made in code name none
    assert policy_files("chosen.toml", {**environment, "SPANRELAY_CONFIG": "other.toml"}) == [chosen]
    assert policy_files("", {**environment, "SPANRELAY_CONFIG": " "}) == [here]
    system = PolicyFile(str(write(tmp_path / "etc" / "spanrelay.toml", "")), "system")
    assert policy_files("", environment) == [system, here]


def test_what_may_be_there_counts(tmp_path: Path) -> None:
    (tmp_path / "spanrelay.toml").symlink_to(tmp_path / "gone.toml")
    [file] = policy_files("", {"XDG_CONFIG_HOME": "nowhere"})
    _, [found] = read_layers([file])
    assert "cannot be read: No such file or directory; create it, or correct the name" in str(found)


def test_a_file_that_was_chosen_and_is_not_there_is_an_error() -> None:
    layers, [found] = read_layers(policy_files("none.toml", {}))
    assert layers[0].on_failure == "stop"
    assert f"{Path.cwd()}/none.toml: cannot be read" in str(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = = 1", "is not TOML: Invalid value (at line 1, column 5)"),
        (b"\xff = 1", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "spanrelay.toml").write_bytes(content)
    _, [found] = read_layers([PolicyFile("spanrelay.toml", "chosen")])
    assert said in str(found)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for name, kind in (("pipe.toml", "not a regular file"), (".", "a folder")):
        _, [found] = read_layers([PolicyFile(name, "chosen")])
        assert str(found) == f"{name}: cannot be read: it is {kind}; name a file, such as spanrelay.toml"


def test_the_line_ends_and_the_mark_of_windows_are_read() -> None:
    Path("spanrelay.toml").write_bytes(b"\xef\xbb\xbf[plugins.a]\r\nx = 1\r\n")
    layers, found = read_layers([PolicyFile("spanrelay.toml", "chosen")])
    assert (found, layers[0].plugins) == ([], {"a": {"x": 1}})


def test_a_file_in_another_language_is_told_to_be_written_as_toml() -> None:
    Path("spanrelay.yaml").write_text("plugins:\n  policy: {}\n")
    _, [found] = read_layers([PolicyFile("spanrelay.yaml", "chosen")])
    assert str(found).startswith("spanrelay.yaml: is not TOML: ")
    assert str(found).endswith("; write the file as TOML")


def test_tables_are_taken_by_plugin() -> None:
    [layer], found = read("[plugins.a]\nx = 1\n[plugins.b.c]\ny = 2")
    assert found == []
    assert layer.plugins == {"a": {"x": 1}, "b": {"c": {"y": 2}}}
    assert layer.on_failure == "stop"


def test_everything_wrong_is_told_with_file_key_and_remedy() -> None:
    _, found = read('plugin = 1\ninclude = 3\n[policy]\non_failure = "maybe"\ntools = 1\n[plugins]\nx = 1')
    assert sorted(found) == [
        'spanrelay.toml: include: is not a list of strings; write include = ["other.toml"]',
        "spanrelay.toml: plugin: is not known; did you mean 'plugins'?",
        "spanrelay.toml: plugins.x: is not a table; write [plugins.x]",
        "spanrelay.toml: policy.on_failure: is not one of the choices; write 'stop' or 'warn'",
        "spanrelay.toml: policy.tools: is not known; did you mean [plugins.policy] tools?",
    ]


def test_variables_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "red")
    monkeypatch.delenv("NONE", raising=False)
    [layer], found = read('[plugins.a]\nx = ["${TEAM}/${NONE:-blue}", "$${TEAM}", "$5"]')
    assert found == []
    assert layer.plugins == {"a": {"x": ["red/blue", "${TEAM}", "$5"]}}


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NONE", raising=False)
    _, found = read('[plugins.a]\nx = "${NONE}"\ny = ["${1}"]')
    assert found == [
        "spanrelay.toml: plugins.a.x: needs the variable NONE, which is not set; set it, or ${NONE:-…}",
        "spanrelay.toml: plugins.a.y[0]: has a ${ that names no variable; write ${NAME}, or $${ for the text ${",
    ]


def test_a_file_that_was_merely_found_sends_nothing_and_reads_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    text = '[[plugins.o.sinks]]\nx = "${TOKEN}"\n[plugins.o.headers]\na = "b"\n[plugins.p]\ntools = ["a"]'
    _, found = read(text, origin="directory")
    assert [line.split(", which")[0] for line in found] == [
        "spanrelay.toml: plugins.o.sinks: sends data somewhere",
        "spanrelay.toml: plugins.o.sinks[0].x: has a ${…}",
        "spanrelay.toml: plugins.o.headers: sends data somewhere",
    ]
    assert all("SPANRELAY_CONFIG=" in line for line in found)
    [layer], found = read(text)
    assert (layer.plugins["o"]["sinks"], found) == ([{"x": "hunter2"}], [])


def test_an_included_file_stands_above_the_one_that_includes_it(tmp_path: Path) -> None:
    write(tmp_path / "shared" / "team.toml", 'include = ["company.toml"]\n[plugins.a]\nx = 2')
    write(tmp_path / "shared" / "company.toml", "[plugins.a]\nx = 1")
    layers, found = read('include = ["shared/team.toml", "shared/company.toml"]\n[plugins.a]\nx = 3')
    assert found == []
    assert [layer.plugins["a"]["x"] for layer in layers] == [1, 2, 3]


def test_an_include_that_cannot_be_read_or_includes_itself_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "b.toml", 'include = ["spanrelay.toml"]')
    _, found = read('include = ["none.toml", "b.toml"]')
    assert [line.split("; ")[0] for line in found] == [
        "none.toml: cannot be read: No such file or directory, which 'spanrelay.toml' includes",
        "b.toml: include: includes 'spanrelay.toml', which includes this file",
    ]


def test_what_a_file_found_here_includes_may_send_nothing_either(tmp_path: Path) -> None:
    write(tmp_path / "b.toml", '[plugins.o]\nendpoint = "http://127.0.0.1"')
    _, [found] = read('include = ["b.toml"]', origin="directory")
    assert found.startswith("b.toml: plugins.o.endpoint: sends data somewhere")


WARN, STOP = '[policy]\non_failure = "warn"', '[policy]\non_failure = "stop"'


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ("", WARN, ["stop", "warn"]),
        (WARN, "", ["warn", "stop"]),
        (STOP, WARN, ["stop", "stop"]),
        (WARN, STOP, ["warn", "stop"]),
    ],
)
def test_a_file_decides_for_itself_unless_one_above_says_stop(above: str, below: str, expected: list[str]) -> None:
    layers, found = read(below, system=above)
    assert [layer.on_failure for layer in layers] == expected
    assert any("has no effect, since a file above says 'stop'" in line for line in found) == (above == STOP)


def test_an_included_file_inherits_what_a_failure_means(tmp_path: Path) -> None:
    write(tmp_path / "b.toml", "")
    layers, _ = read(f'include = ["b.toml"]\n{WARN}')
    assert [layer.on_failure for layer in layers] == ["warn", "warn"]


DECLARATIVE = """
file_format: "1.0"
distribution:
  other: {x: 1}
  spanrelay:
    policy: {on_failure: warn}
    plugins:
      a: {x: 1, "y": "${TEAM}"}
"""


def test_a_section_of_opentelemetrys_own_file_is_one_more_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    monkeypatch.setenv("TEAM", "red")
    write(tmp_path / "otel.yaml", DECLARATIVE)
    write(tmp_path / "spanrelay.toml", "[plugins.b]")
    layers, found = read_layers(policy_files("", {"OTEL_CONFIG_FILE": "otel.yaml"}))
    assert found == []
    assert [(Path(layer.file).name, layer.plugins, layer.on_failure) for layer in layers] == [
        ("spanrelay.toml", {"b": {}}, "stop"),
        ("otel.yaml", {"a": {"x": 1, "y": "red"}}, "warn"),
    ]


def test_a_declarative_file_that_does_not_speak_of_us_is_the_sdks_affair(tmp_path: Path) -> None:
    write(tmp_path / "otel.yaml", "file_format: [")
    for name in ("otel.yaml", "gone.yaml", "."):
        assert policy_files("", {"OTEL_CONFIG_FILE": name, "XDG_CONFIG_HOME": "nowhere"}) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("distribution: {spanrelay: [hunter2", "is not YAML: expected ',' or ']', but got '<stream end>' (at line 1)"),
        ("distribution: {spanrelay: hunter2}", "distribution.spanrelay is not a mapping"),
    ],
)
def test_a_section_that_cannot_be_understood_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    pytest.importorskip("yaml")
    write(tmp_path / "otel.yaml", text)
    _, [found] = read_layers(policy_files("", {"OTEL_CONFIG_FILE": "otel.yaml", "XDG_CONFIG_HOME": "nowhere"}))
    assert said in str(found)
    assert "hunter2" not in str(found)


def test_a_plugins_table_with_nothing_in_it_is_told() -> None:
    _, found = read("[plugins]")
    assert found == [
        "spanrelay.toml: plugins: is empty, so this file puts nothing in force; "
        "write [plugins.<name>] with its settings, or remove the table"
    ]
    assert read("[policy]")[1] == []


@pytest.mark.parametrize("text", ["", "# tools.deny = []\n"])
def test_a_file_that_says_nothing_is_told(text: str) -> None:
    _, [told] = read(text)
    assert told.startswith("spanrelay.toml: says nothing, so it puts nothing in force; write [plugins.<name>]")
