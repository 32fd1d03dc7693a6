"""The plugin `tool_cache`, from a file alone: what is not run again, and what is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spanrelay import GuardrailRejected, guardrail, run_tool, tool, use
from spanrelay.config import PolicyFile
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.tool_cache import ToolCachePlugin
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture

RULES = """
[plugins.tool_cache.tools.search]
ttl_seconds = 10
ignore_arguments = ["trace"]
[plugins.tool_cache.tools."read_*"]
"""


class Clock(Shelf):
    """What plugins are taken from; the cache has a clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0

    def take(self, name: str) -> Any:
        """Return a plugin."""
        return (ToolCachePlugin(lambda: self.now), []) if name == "tool_cache" else super().take(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_force(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., None]]:
    """Puts what a file says in force."""
    activations: list[Activation] = []

    def put(rules: str = RULES, more: str = "", *, mode: str = "apply", namespace: str = "tests") -> None:
        for activation in activations:
            activation.close()
        path = tmp_path / "spanrelay.toml"
        path.write_text(f'[plugins.tool_cache]\nnamespace = "{namespace}"\nmode = "{mode}"\n{more}\n{rules}')
        activations.append(Activation([PolicyFile(str(path), "chosen")], clock))
        activations[-1].start()

    yield put
    for activation in activations:
        activation.close()


class Found:
    """A tool that gives another result each time."""

    def __init__(self) -> None:
        self.ran = 0
        self.gives: Any = None

    def __call__(self, **arguments: Any) -> Any:
        self.ran += 1
        return {"found": self.ran} if self.gives is None else self.gives


@pytest.fixture
def found() -> Found:
    return Found()


def decisions(capture: Capture) -> list[Any]:
    told = [dict(span.attributes or {}) for span in capture.spans]
    return [each.get(names.RESPONSE_CACHE_REASON, each.get(names.RESPONSE_CACHE_DECISION)) for each in told]


def test_a_tool_is_not_run_again_for_the_same_arguments(capture: Capture, in_force: Any, found: Found) -> None:
    in_force()
    asked = [{"q": "tide", "trace": 1}, {"trace": 2, "q": "tide"}, {"q": "ebb"}]
    assert [run_tool("search", found, each)["found"] for each in asked] == [1, 1, 2]
    assert decisions(capture) == ["miss", "hit", "miss"]
    again = dict(capture.spans[1].attributes or {})
    assert again["spanrelay.answered_by"] == "tool_cache.answers"
    assert again["gen_ai.tool.call.result"] == '{"found":1}'


async def test_decorated_tools_are_answered_in_both_colours(capture: Capture, in_force: Any) -> None:
    in_force()
    ran: list[str] = []

    @tool
    def read_page(name: str) -> str:
        ran.append(name)
        return f"page {name}"

    @tool
    async def read_file(name: str) -> str:
        ran.append(name)
        return f"file {name}"

    assert [read_page("a"), read_page("a")] == ["page a"] * 2
    assert [await read_file("b"), await read_file("b")] == ["file b"] * 2
    assert ran == ["a", "b"]


def test_what_no_rule_names_runs_each_time(capture: Capture, in_force: Any, found: Found) -> None:
    in_force()
    assert [run_tool("send", found, {})["found"] for _ in range(2)] == [1, 2]
    assert decisions(capture) == [None, None]


def test_a_result_holds_for_the_time_of_its_own_rule(
    capture: Capture, in_force: Any, found: Found, clock: Clock
) -> None:
    in_force()
    for name in ("search", "read_page"):
        run_tool(name, found, {})
    clock.now += 11
    assert [run_tool(name, found, {})["found"] for name in ("search", "read_page")] == [3, 2]


def test_another_tool_version_or_namespace_shares_nothing(
    capture: Capture, in_force: Any, found: Found, tmp_path: Path
) -> None:
    kept = f'path = "{tmp_path / "results.sqlite3"}"'
    in_force(more=kept)
    run_tool("read_page", found, {"q": 1})
    run_tool("read_file", found, {"q": 1})
    in_force(more=kept)
    assert run_tool("read_page", found, {"q": 1}) == {"found": 1}
    in_force('[plugins.tool_cache.tools.read_page]\nversion = "2"', kept)
    assert run_tool("read_page", found, {"q": 1}) == {"found": 3}
    in_force(more=kept, namespace="other")
    assert run_tool("read_page", found, {"q": 1}) == {"found": 4}


@dataclass
class Page:
    text: str


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        (Page("a"), "not_json"),
        ((1, 2), "not_json"),
        ({"a": {1}}, "not_json"),
        ({"error": "no"}, "error"),
        ({"isError": True}, "error"),
    ],
    ids=str,
)
def test_what_the_program_might_get_otherwise_is_not_kept(
    gives: Any, reason: str, capture: Capture, in_force: Any, found: Found
) -> None:
    in_force()
    found.gives = gives
    assert [run_tool("search", found, {}) for _ in range(2)] == [gives, gives]
    assert (found.ran, decisions(capture)) == (2, [reason, reason])


def test_a_tool_that_fails_runs_again(capture: Capture, in_force: Any) -> None:
    in_force()

    def fails() -> None:
        raise OSError("gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            run_tool("search", fails)
    assert decisions(capture) == ["miss", "miss"]


def test_what_a_program_does_to_a_result_changes_nobodys(capture: Capture, in_force: Any, found: Found) -> None:
    in_force()
    run_tool("search", found, {})["found"] = "changed"
    run_tool("search", found, {})["found"] = "changed"
    assert run_tool("search", found, {}) == {"found": 1}


def test_policy_refuses_a_tool_that_would_be_answered(capture: Capture, in_force: Any, found: Found) -> None:
    in_force()
    run_tool("search", found, {})
    with use(guardrail(name="no")(lambda call: "no")), pytest.raises(GuardrailRejected):
        run_tool("search", found, {})


async def test_tasks_that_run_the_same_at_once_run_it_once(capture: Capture, in_force: Any) -> None:
    in_force()
    ran: list[str] = []

    @tool
    async def read_file(name: str) -> str:
        ran.append(name)
        await asyncio.sleep(0)
        return name

    assert await asyncio.gather(*(read_file("a") for _ in range(3))) == ["a"] * 3
    assert ran == ["a"]


def test_what_only_observes_runs_each_time(capture: Capture, in_force: Any, found: Found) -> None:
    in_force(mode="observe")
    assert [run_tool("search", found, {})["found"] for _ in range(2)] == [1, 2]
    assert decisions(capture) == ["miss", "would_hit"]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "tools: is empty"),
        ('[plugins.tool_cache.tools."*"]', "matches every tool"),
        ("[plugins.tool_cache.tools.search]\nttl_seconds = 0", "tools.search.ttl_seconds: is out of its range"),
        ("[plugins.tool_cache.tools.search]\nttl_second = 1", "did you mean 'ttl_seconds'"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(rules: str, told: str, in_force: Any) -> None:
    with pytest.raises(ConfigurationError, match=told):
        in_force(rules)
