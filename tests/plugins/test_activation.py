"""What files ask for comes into force all at once or not at all, and can be exchanged while calls are made."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.installed import distribution, on_path

import spanrelay
from spanrelay import ConfigurationError, GuardrailRejected, run_tool
from spanrelay._guard import losses
from spanrelay.config import PolicyFile, Settings
from spanrelay.pipeline.middleware import registered
from spanrelay.plugins import configured, coverage
from spanrelay.plugins.activation import Activation, current_activation
from spanrelay.plugins.demand import demand
from spanrelay.registry import _changing

SOURCE = """
from dataclasses import dataclass, field
from spanrelay import guardrail
from spanrelay.plugins import Diagnostic, Secret

events = []


@dataclass
class Config:
    words: list[str] = field(default_factory=list)
    fails: str = ""
    key: Secret | None = None


class Base:
    config_model = Config

    def validate(self, config):
        if config.fails == "validate":
            raise ValueError(f"broken by {config.key.reveal()}")
        return [Diagnostic("may not be empty", "write a word", "words")] if "" in config.words else []

    def register(self, context):
        words = context.config.words
        events.append(f"register {context.name} {words}")
        context.on_close(lambda: events.append(f"close {context.name} {words}"))

        @guardrail(name="words")
        def refuse(call):
            return next((f"no {word}" for word in words if word in str(call.request.arguments)), None)

        context.use(refuse)
        if context.config.fails == "register":
            raise OSError(f"broken by {context.config.key.reveal()}")


class First(Base):
    name = "first"


class Second(Base):
    name = "second"


class Misnamed(Base):
    name = "other"


class NoModel(Base):
    name = "no_model"
    config_model = dict


class WithoutModel:
    name = "without_model"


class Empty:
    name = "empty"
    config_model = Config


def explode():
    raise AssertionError("nobody configured this")
"""

ENTRY_POINTS = """
[spanrelay_plugin]
first = words:First
second = words:Second
misnamed = words:Misnamed
no_model = words:NoModel
without_model = words:WithoutModel
empty = words:Empty
gone = words:Gone
twice = words:First
never = never:Never
"""


@pytest.fixture(autouse=True)
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the plugins were told; they are installed, and no file of the machine's is seen."""
    monkeypatch.setattr("spanrelay.config.files.SYSTEM_FILE", str(tmp_path / "none.toml"))
    monkeypatch.chdir(tmp_path)
    folder = distribution(tmp_path / "site", "words", "words", SOURCE, ENTRY_POINTS)
    distribution(folder, "more", "more", "", "[spanrelay_plugin]\ntwice = words:Second\n")
    with on_path(folder):
        import words

        yield words.events
    assert registered.entries == ()
    assert not demand.stops


def write(text: str, name: str = "spanrelay.toml") -> PolicyFile:
    path = Path.cwd() / name
    path.write_text(text)
    return PolicyFile(str(path), "chosen")


@pytest.fixture
def start() -> Iterator[Any]:
    """Activates files with the given texts, the highest first."""
    activations: list[Activation] = []

    def activate(*texts: str) -> Activation:
        activations.append(Activation([write(text, f"{at}.toml") for at, text in enumerate(texts)]))
        activations[-1].start()
        return activations[-1]

    yield activate
    for activation in activations:
        activation.close()


def refused(*texts: str) -> list[str]:
    """What an activation that must fail says, a line for each diagnostic, without the folder."""
    with pytest.raises(ConfigurationError) as error:
        Activation([write(text, f"{at}.toml") for at, text in enumerate(texts)]).start()
    head, *lines = str(error.value).replace(f"{Path.cwd()}/", "").split("\n  ")
    assert head == "the configuration cannot be put in force:"
    return lines


def say(text: str) -> Any:
    return run_tool("say", lambda text: text, {"text": text})


def in_force() -> list[str]:
    return [entry.name for entry in registered.entries]


def test_what_a_file_asks_for_holds_until_it_is_closed(start: Any, events: list[str]) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]\n[plugins.second]\nwords = ["bah"]')
    assert in_force() == ["first.words", "second.words"]
    assert demand.stops
    with pytest.raises(GuardrailRejected, match=r"'second.words' refused the call: no bah"):
        say("bah")
    assert say("hello") == "hello"
    activation.close()
    assert say("bah") == "bah"
    assert events == [
        "register first ['boo']",
        "register second ['bah']",
        "close second ['bah']",
        "close first ['boo']",
    ]


def test_a_switched_off_plugin_is_validated_and_not_in_force(start: Any, events: list[str]) -> None:
    start('[plugins.first]\nenabled = false\nwords = ["boo"]')
    assert (in_force(), events, demand.stops) == ([], [], False)
    assert refused("[plugins.first]\nenabled = false\nwords = 3\n[plugins.second]\nenabled = 1") == [
        '0.toml: plugins.first.words: is a whole number; write a list of text, as in ["…"]',
        "0.toml: plugins.second.enabled: is a whole number; write true or false",
    ]


def test_a_lower_file_adds_and_loosens_nothing(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    start('[plugins.first]\nwords = ["boo"]', '[plugins.first]\nwords = ["bah"]')
    assert in_force() == ["first-2.words", "first.words"]
    for text in ("boo", "bah"):
        with pytest.raises(GuardrailRejected):
            say(text)


def test_a_lower_file_cannot_switch_off(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]', "[plugins.first]\nenabled = false")
    assert in_force() == ["first.words"]
    [warning] = activation.diagnostics
    assert warning.level == "warning"
    assert str(warning).endswith(f"enabled = false has no effect: {Path.cwd()}/0.toml switches it on; change it there")
    assert str(warning) in caplog.text


def test_everything_wrong_in_all_files_is_told_and_nothing_is_in_force(events: list[str]) -> None:
    assert refused('[plugins.frist]\n[plugins.first]\nwords = [""]', "[plugins.second]\nwords = [1]\nx = 1\n[p]") == [
        "1.toml: p: is not known; write it below [plugins.<name>]; at the top there are only include, plugins, policy",
        "0.toml: plugins.frist: no installed plugin has this name; did you mean 'first'? "
        "If not, install the package that has it",
        "0.toml: plugins.first.words: may not be empty; write a word",
        "1.toml: plugins.second.x: is not known; remove it; expected one of fails, key, words",
        "1.toml: plugins.second.words[0]: is a whole number; write text in quotes",
    ]
    assert events == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("misnamed", "is not a plugin: its name is 'other', its entry point's is 'misnamed'; see 'words:Misnamed'"),
        ("no_model", "is not a plugin: its config_model is not a dataclass"),
        ("without_model", "is not a plugin: its config_model is not a dataclass"),
        ("empty", "is not a plugin: it has no validate and no register"),
        ("gone", "cannot be loaded: AttributeError: module 'words' has no attribute 'Gone'; see 'words:Gone'"),
        ("never", "cannot be loaded: ModuleNotFoundError: No module named 'never'"),
        ("twice", "several plugins have this name: words:First, words:Second; uninstall all but one"),
    ],
)
def test_what_is_no_plugin_is_told(name: str, said: str) -> None:
    [line] = refused(f"[plugins.{name}]")
    assert line.startswith(f"0.toml: plugins.{name}: {said}")


def test_a_plugin_that_fails_half_way_takes_everything_back(events: list[str]) -> None:
    assert refused('[plugins.first]\n[plugins.second]\nfails = "register"\nkey = "hunter2"') == [
        "0.toml: plugins.second: cannot be installed: OSError: broken by …; see the plugin's documentation"
    ]
    assert events == ["register first []", "register second []", "close second []", "close first []"]


def test_what_came_from_the_environment_or_is_secret_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    for how in ("validate", "register"):
        for key in ("hunter2", "${TOKEN}"):
            assert "hunter2" not in "".join(refused(f'[plugins.first]\nfails = "{how}"\nkey = "{key}"'))


@pytest.mark.swallows
def test_where_a_warning_is_enough_the_rest_holds_and_it_is_counted(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    warn = '[policy]\non_failure = "warn"\n'
    start(f'{warn}[plugins.first]\nwords = ["boo"]\n[plugins.second]\nfails = "register"\nkey = "k"\n[plugins.none]')
    assert in_force() == ["first.words"]
    assert "plugins.second: cannot be installed" in caplog.text
    assert "plugins.none: no installed plugin" in caplog.text
    assert losses.take() == {"parts of the configured policy": 2}
    assert not demand.stops


def test_a_warning_in_one_file_does_not_excuse_another() -> None:
    assert len(refused("[plugins.none]", '[policy]\non_failure = "warn"\n[plugins.none]')) == 2


def test_a_reload_exchanges_old_for_new_and_no_call_is_made_between_them(start: Any, events: list[str]) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]')
    seen: list[list[str]] = []
    events.clear()
    plugin = activation._shelf.take("first")[0]
    assert plugin is not None
    register = plugin.register
    plugin.register = lambda context: (register(context), seen.append(in_force()))  # type: ignore[method-assign]
    write('[plugins.first]\nwords = ["bah"]', "0.toml")
    activation.reload()
    assert seen == [["first.words"]]
    assert events == ["register first ['bah']", "close first ['boo']"]
    assert say("boo") == "boo"
    with pytest.raises(GuardrailRejected):
        say("bah")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_during_a_reload_reads_the_files_and_registers_itself(start: Any) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]')
    write('[plugins.first]\nwords = ["bah"]', "0.toml")
    plugin, parent = activation._shelf.take("first")[0], os.getpid()
    assert plugin is not None
    register, begun, go_on = plugin.register, threading.Event(), threading.Event()

    def held_up(context: Any) -> None:
        with _changing.lock:
            if os.getpid() == parent:
                begun.set()
                go_on.wait(20)
        register(context)

    plugin.register = held_up  # type: ignore[method-assign]
    thread = threading.Thread(target=activation.reload)
    thread.start()
    assert begun.wait(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(15, exit=True)
            with pytest.raises(GuardrailRejected):  # the old holds until the new does
                say("boo")
            activation.reload()
            with pytest.raises(GuardrailRejected):
                say("bah")
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    thread.join(20)
    assert say("boo") == "boo"


def test_a_reload_takes_no_beginning_of_a_file_for_the_whole(start: Any) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]')
    path, read, table = Path("0.toml"), activation._read, '[plugins.first]\nwords = ["boo"'
    contents = ["", table, f'{table}, "bah"]']

    def written_meanwhile(files: Any) -> Any:
        """Read what is there while somebody writes: the file is new each time but the last."""
        path.write_text(contents.pop(0))
        if not contents:
            os.utime(path, (0, 0))
        return read(files)

    activation._read = written_meanwhile
    activation.reload()
    for word in ("boo", "bah"):
        with pytest.raises(GuardrailRejected):
            say(word)


def test_a_reload_ends_where_a_file_is_written_all_the_time(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    activation = start('[plugins.first]\nwords = ["boo"]')
    monkeypatch.setattr("spanrelay.plugins.activation.PATIENCE_S", 0.0)
    monkeypatch.setattr("spanrelay.plugins.activation.NEW_S", 1e9)
    write("", "0.toml")
    with pytest.raises(ConfigurationError, match="is written all the time; write another file and rename it"):
        activation.reload()
    with pytest.raises(GuardrailRejected):
        say("boo")


@pytest.mark.parametrize(
    "broken",
    ["[plugins.first]\nwords = 1", "=", '[plugins.first]\n[plugins.second]\nfails = "register"\nkey = "k"'],
)
@pytest.mark.parametrize("policy", ["", '[policy]\non_failure = "warn"\n'])
def test_a_reload_that_fails_leaves_the_old_in_force(start: Any, broken: str, policy: str) -> None:
    activation = start(f'{policy}[plugins.first]\nwords = ["boo"]')
    write(policy + broken, "0.toml")
    with pytest.raises(ConfigurationError):
        activation.reload()
    with pytest.raises(GuardrailRejected, match="no boo"):
        say("boo")
    assert in_force() == ["first.words"]
    write('[plugins.second]\nwords = ["bah"]', "0.toml")
    activation.reload()
    assert in_force() == ["second.words"]


def test_a_plugin_that_is_out_of_force_registers_nothing_more(start: Any) -> None:
    activation = start("[plugins.first]")
    [context] = activation.contexts
    [entry] = context.entries
    activation.close()
    with pytest.raises(ConfigurationError, match="plugin 'first' is no longer in force"):
        context.use(entry)


def test_activate_installs_the_file_even_where_recording_is_off() -> None:
    path = write('[plugins.first]\nwords = ["boo"]').path
    configured.forget()
    try:
        assert spanrelay.activate(Settings(disabled=True, config_file=path)) is None
        with pytest.raises(GuardrailRejected):
            say("boo")
        current = current_activation()
        assert current is not None
        current.close()
        assert current_activation() is None
    finally:
        configured.forget()
        for instrumentor in coverage._installed():
            if instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.uninstrument()


def test_activate_raises_what_is_wrong_every_time() -> None:
    path = write("[plugins.none]").path
    configured.forget()
    try:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="no installed plugin has this name"):
                spanrelay.activate(Settings(disabled=True, config_file=path))
    finally:
        configured.forget()
