"""Policy that a file has put in force stands where it does, whatever an application registers beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from spanrelay import (
    GuardrailRejected,
    MiddlewareError,
    execution_intercept,
    gate,
    guardrail,
    request_intercept,
    run_tool,
    scope,
    use,
)
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

HELLO: Any = [{"role": "user", "content": "hello"}]
PRIORITIES = (1_000_000, 1_000_001, 10**30)


def ask(client: openai.OpenAI, model: str = "gpt-5", **options: Any) -> Any:
    return client.chat.completions.create(model=model, messages=HELLO, **options)


@contextmanager
def globally(entry: Any) -> Iterator[None]:
    with use(entry):
        yield


@contextmanager
def within_a_scope(entry: Any) -> Iterator[None]:
    with scope("here", session="s") as here:
        here.use(entry)
        yield


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("put", [globally, within_a_scope])
def test_every_sending_is_counted_whatever_priority_the_one_that_sends_it_has(
    policy: Any, client: openai.OpenAI, server: ModelServer, priority: int, put: Callable[[Any], Any]
) -> None:
    policy("session.max_calls = 2")

    @execution_intercept(name="z_five_times", priority=priority)
    def five_times(call: Any) -> Any:
        for _ in range(5):
            yield call

    with put(five_times), pytest.raises(GuardrailRejected, match="2 of the 2 model calls"):
        ask(client)
    assert len(server.requests) == 2


@pytest.mark.parametrize("priority", PRIORITIES)
def test_parameters_are_what_is_sent_whatever_priority_the_one_that_changes_them_has(
    policy: Any, client: openai.OpenAI, server: ModelServer, priority: int
) -> None:
    policy('parameters."*" = { temperature = 0.25 }')

    @request_intercept(name="z_before", priority=priority)
    def before(call: Any) -> Any:
        return replace(call.request, parameters={"temperature": 2.0})

    @execution_intercept(name="z_around", priority=priority)
    def around(call: Any) -> Any:
        yield call.with_request(replace(call.request, parameters={"temperature": 1.0}))

    with use(before), use(around):
        ask(client)
    assert [request.body["temperature"] for request in server.requests] == [0.25]


OFFERED: dict[str, Any] = {"tools": [{"type": "web_search"}]}


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_tool_that_the_provider_runs_is_judged_whatever_priority_the_one_that_offers_it_has(
    policy: Any, client: openai.OpenAI, server: ModelServer, priority: int
) -> None:
    policy('tools.deny = ["web_search*"]')

    @execution_intercept(name="z_offers", priority=priority)
    def offers(call: Any) -> Any:
        call.wire |= OFFERED
        yield call

    with use(offers), pytest.raises(GuardrailRejected, match="'web_search' is denied"):
        client.responses.create(model="gpt-5", input="hi")
    assert not server.requests


@pytest.mark.parametrize("priority", [-(10**30), -1_000_001, 1_000_001])
def test_an_execution_that_anything_refuses_is_seen_whatever_its_priority(
    policy: Any, client: openai.OpenAI, server: ModelServer, priority: int
) -> None:
    """What stands as the tool's result is then what became of the refusal, and is sent."""
    policy('tools.deny = ["delete"]')

    @request_intercept(name="a_refuses", kinds=["tool"], priority=priority)
    def refuses(call: Any) -> Any:
        raise GuardrailRejected("not today", "a_refuses")

    asked = {"id": "c1", "type": "function", "function": {"name": "delete", "arguments": "{}"}}
    with use(refuses), pytest.raises(GuardrailRejected):
        run_tool("delete", lambda: None, call_id="c1")
    history: Any = [*HELLO, {"role": "assistant", "tool_calls": [asked]}]
    history.append({"role": "tool", "tool_call_id": "c1", "content": "not today"})
    client.chat.completions.create(model="gpt-5", messages=history)
    assert len(server.requests) == 1


def test_a_guardrail_that_changes_a_request_as_often_as_it_judges_it_sends_nothing_unjudged(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy('models.deny = ["secret"]')
    models = iter(["gpt-5-mini", "secret"])

    @guardrail(name="z_rotates", kinds=["llm"], priority=10**9)
    def rotates(call: Any) -> None:
        call.request.model = next(models)

    with use(rotates), pytest.raises(MiddlewareError, match="a guardrail changes the request each time"):
        ask(client)
    assert not server.requests


def test_a_guardrail_that_changes_a_request_once_has_the_change_judged_and_sent(
    policy: Any, client: openai.OpenAI, server: ModelServer
) -> None:
    policy('models.deny = ["secret"]')

    @guardrail(name="z_changes", kinds=["llm"])
    def changes(call: Any) -> None:
        call.request.model = "gpt-5-mini"

    with use(changes):
        ask(client)
    assert [request.body["model"] for request in server.requests] == ["gpt-5-mini"]


@pytest.mark.swallows
@pytest.mark.parametrize("put", [globally, within_a_scope])
def test_a_gate_of_the_applications_switches_nothing_off_that_a_file_has_put_in_force(
    capture: Capture, policy: Any, put: Callable[[Any], Any]
) -> None:
    policy('tools.deny = ["delete"]')

    @gate("policy.tools")
    def closed(call: Any) -> str:
        return "maintenance"

    with put(closed), pytest.raises(GuardrailRejected):
        run_tool("delete", lambda: None)


@pytest.mark.swallows
def test_a_gate_switches_off_what_it_may_of_several(capture: Capture, policy: Any) -> None:
    policy('tools.deny = ["delete"]')

    @guardrail
    def never(call: Any) -> str:
        return "no"

    @gate("policy.tools", "never")
    def closed(call: Any) -> str:
        return "maintenance"

    with use(never), use(closed):
        assert run_tool("get", lambda: 1) == 1
        with pytest.raises(GuardrailRejected, match="denied by 'delete'"):
            run_tool("delete", lambda: None)
