"""The plugin `tool_cache` at LangChain's tools: a message is given again for the call that asks, and none is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, ToolException, tool

from spanrelay.plugins.plugin import Context
from spanrelay.plugins.tool_cache import ToolCacheConfig, ToolCachePlugin
from spanrelay.plugins.tool_cache.plugin import ToolRule
from spanrelay_testkit.capture import Capture

RAN: list[str] = []


@pytest.fixture(autouse=True)
def in_force(instrumented: Capture) -> Iterator[None]:
    RAN.clear()
    context = Context(ToolCacheConfig("tests", "apply", tools={"find*": ToolRule()}), "tool_cache")
    ToolCachePlugin().register(context)
    yield
    context.close()


@tool
def find(city: str) -> str:
    """Find."""
    RAN.append(city)
    return f"{len(RAN)} in {city}"


@tool(response_format="content_and_artifact")
def find_raw(city: str) -> tuple[str, Any]:
    """Find."""
    RAN.append(city)
    return f"{len(RAN)} in {city}", {"raw": city}


@tool
def find_mine(city: str, state: Annotated[Any, InjectedToolArg]) -> str:
    """Find."""
    RAN.append(city)
    return f"{len(RAN)} in {city}"


def called(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": {"city": "Rome", **arguments}, "id": call_id, "type": "tool_call"}


async def test_a_message_is_given_again_for_the_call_that_asks() -> None:
    answers = [find.invoke(called("find", "c1")), await find.ainvoke(called("find", "c2"))]
    assert answers == [ToolMessage("1 in Rome", name="find", tool_call_id=f"c{at}") for at in (1, 2)]
    assert find.invoke({"city": "Rome"}) == "1 in Rome"
    assert RAN == ["Rome"]


def test_what_a_message_has_beside_its_content_is_not_lost() -> None:
    answers: list[Any] = [find_raw.invoke(called("find_raw", "c1")) for _ in range(2)]
    assert [each.artifact for each in answers] == [{"raw": "Rome"}] * 2
    assert len(RAN) == 2


def test_what_depends_on_what_is_injected_runs_each_time() -> None:
    for _ in range(2):
        find_mine.invoke(called("find_mine", "c1", state=object()))
    assert len(RAN) == 2


@tool
def find_ours(city: str, config: RunnableConfig) -> str:
    """Find."""
    return f"{city} of {config['configurable']['user']}"


@tool
async def find_theirs(city: str, *, config: RunnableConfig) -> str:
    """Find."""
    return f"{city} of {config['configurable']['user']}"


class FindOurs(BaseTool):
    name: str = "find_by_class"
    description: str = "Find."

    def _run(self, city: str, config: RunnableConfig) -> str:
        return f"{city} of {config['configurable']['user']}"


async def test_what_one_user_is_given_by_the_config_of_a_run_is_not_given_to_another() -> None:
    for each in (find_ours, FindOurs(), find_theirs):
        answers = [
            await each.ainvoke({"city": "Rome"}, config={"configurable": {"user": user}}) for user in ("ann", "bob")
        ]
        assert answers == ["Rome of ann", "Rome of bob"]


@tool
def find_call(city: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Find."""
    return f"{city} for {call_id}"


def test_a_tool_that_is_told_the_id_of_its_call_runs_each_time() -> None:
    answers = [find_call.invoke(called("find_call", call_id)) for call_id in ("c1", "c2")]
    assert [each.content for each in answers] == ["Rome for c1", "Rome for c2"]


@tool
def find_nothing(city: str) -> str:
    """Find."""
    RAN.append(city)
    raise ToolException("nothing there")


def test_an_error_that_a_tool_puts_into_words_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_nothing, "handle_tool_error", True)
    assert [find_nothing.invoke({"city": "Rome"}) for _ in range(2)] == ["nothing there"] * 2
    find_nothing.invoke(called("find_nothing", "c1"))
    assert len(RAN) == 3
