"""The plugin `tool_cache` at Pydantic AI's tools: what one run's context gives is not given to another run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.models.test import TestModel

from spanrelay.plugins.plugin import Context
from spanrelay.plugins.tool_cache import ToolCacheConfig, ToolCachePlugin
from spanrelay.plugins.tool_cache.plugin import ToolRule
from spanrelay_testkit.capture import Capture


@pytest.fixture(autouse=True)
def in_force(instrumented: Capture) -> Iterator[None]:
    context = Context(ToolCacheConfig("tests", "apply", tools={"find*": ToolRule()}), "tool_cache")
    ToolCachePlugin().register(context)
    yield
    context.close()


def test_a_tool_that_gets_the_context_of_its_run_runs_each_time() -> None:
    agent = Agent(TestModel(), deps_type=str)
    ran: list[str] = []

    @agent.tool
    def find_mine(ctx: RunContext[str], city: str) -> str:
        return ctx.deps

    @agent.tool_plain
    def find(city: str) -> str:
        ran.append(city)
        return "sunny"

    answers = [agent.run_sync("Rome", deps=user).output for user in ("ann", "bob")]
    assert answers == ['{"find_mine":"ann","find":"sunny"}', '{"find_mine":"bob","find":"sunny"}']
    assert len(ran) == 1
