"""The plugin `tool_cache` at LangChain's tools: a message is given again for the call that asks, and none is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolArg, tool

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
