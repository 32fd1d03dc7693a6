"""Policy in runs of agents: around tools, around model calls, around runs as a whole, whatever the framework.

An agent `weatherman` asks its model, runs `get_weather`, and asks again; every way of running it is held to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from spanrelay import GuardrailRejected, MiddlewareError, execution_intercept, guardrail, request_intercept, scope, use
from spanrelay.records import AgentRequest, AgentResult, ToolResult
from spanrelay_testkit.capture import Capture, at_work, captured
from spanrelay_testkit.exchange import Answer, Request
from spanrelay_testkit.model_server import ModelServer
from spanrelay_testkit.outline import named, tree

RUN = ["invoke_agent weatherman", "  chat gpt-5", "  execute_tool get_weather", "  chat gpt-5"]
"""The outline of a run."""

QUESTION = "How is the weather in Rome?"
"""What it is asked."""


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class AgentPolicyContract:
    """Derive as `Test…`, supply the hooks, and policy is held to its word each way that an agent may be run."""

    instrumentors: ClassVar[Sequence[Callable[[], BaseInstrumentor]]]
    """Of the framework, and of the SDK beneath it."""
    ways: ClassVar[Sequence[Callable[..., Any]]]
    """`(server, agent, question)`: every way to run an agent; returns what the framework returns."""
    model: ClassVar[Callable[[Request], Answer]]
    """Asks for the weather in Rome where it is offered `get_weather`, and then says `I was told: …`."""

    def weatherman(self, get_weather: Callable[[str], str]) -> Any:
        """Return the agent, whose one tool is this function."""
        raise NotImplementedError

    def output_of(self, result: Any) -> Any:
        """Return what a run ended with."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test each way."""
        if "run" in metafunc.fixturenames:
            metafunc.parametrize("run", list(self.ways), ids=[way.__name__ for way in self.ways])

    @pytest.fixture
    def server(self) -> Iterator[ModelServer]:
        """What the agents ask."""
        with ModelServer(type(self).model) as running:
            yield running

    @pytest.fixture
    def given(self) -> list[str]:
        """The cities that the tool of `agent` was asked about."""
        return []

    @pytest.fixture
    def agent(self, given: list[str]) -> Any:
        """A weatherman that remembers what it was asked about."""

        def get_weather(city: str) -> str:
            """The weather of a city."""
            given.append(city)
            return f"sunny in {city}"

        return self.weatherman(get_weather)

    # --- tools ---

    def test_a_refused_tool_ends_the_run_with_the_refusal_itself(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any, given: list[str]
    ) -> None:
        """The model is told nothing, and both spans say why."""

        @guardrail(kinds=["tool"])
        def never(call: Any) -> str:
            return f"not {call.request.name}"

        with use(never), pytest.raises(GuardrailRejected, match="not get_weather"):
            run(server, agent, QUESTION)
        assert given == []
        assert tree(instrumented) == [*RUN[:3], "    run_guardrail never"]
        for name in (RUN[0], RUN[2].strip()):
            assert named(instrumented, name).status.description == "guardrail 'never' refused the call: not get_weather"

    def test_a_refusal_that_answers_is_told_to_the_model(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any, given: list[str]
    ) -> None:
        """The run goes on with the refusal as the tool's result."""

        @guardrail(kinds=["tool"], answers=True)
        def never(call: Any) -> str:
            return "not today"

        told = "guardrail 'never' refused the call: not today"
        with use(never):
            assert self.output_of(run(server, agent, QUESTION)) == f"I was told: {told}"
        assert given == []
        assert named(instrumented, RUN[2].strip()).status.description == told

    def test_rewritten_arguments_reach_the_tool(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any, given: list[str]
    ) -> None:
        """What is recorded is what the tool was given."""

        @request_intercept(kinds=["tool"])
        def elsewhere(call: Any) -> Any:
            return replace(call.request, arguments={"city": call.request.arguments["city"].replace("Rome", "Oslo")})

        with use(elsewhere):
            assert self.output_of(run(server, agent, QUESTION)) == "I was told: sunny in Oslo"
        assert given == ["Oslo"]
        tool = named(instrumented, RUN[2].strip()).attributes or {}
        assert tool["gen_ai.tool.call.arguments"] == '{"city":"Oslo"}'

    def test_an_answer_of_policy_stands_for_the_tool(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any, given: list[str]
    ) -> None:
        """The tool does not run."""

        @execution_intercept(kinds=["tool"])
        def known(call: Any) -> Any:
            return ToolResult("foggy")
            yield

        with use(known):
            assert self.output_of(run(server, agent, QUESTION)) == "I was told: foggy"
        assert given == []

    def test_what_a_tool_gave_may_be_changed(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """The model is told, and the span says, what policy makes of it."""

        @execution_intercept(kinds=["tool"])
        def louder(call: Any) -> Any:
            response = yield call
            return ToolResult(response.record.content.upper())

        with use(louder):
            assert self.output_of(run(server, agent, QUESTION)) == "I was told: SUNNY IN ROME"
        tool = named(instrumented, RUN[2].strip()).attributes or {}
        assert tool["gen_ai.tool.call.result"] == "SUNNY IN ROME"

    def test_policy_that_breaks_its_word_ends_the_run_with_what_is_wrong(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any, given: list[str]
    ) -> None:
        """It fails closed."""

        @request_intercept(kinds=["tool"])
        def broken(call: Any) -> Any:
            return "not a request"

        with use(broken), pytest.raises(MiddlewareError, match="must be a ToolRequest"):
            run(server, agent, QUESTION)
        assert given == []

    # --- model calls ---

    def test_policy_for_models_runs_once_on_what_is_sent(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """It is given the wire, not what the framework calls a request."""
        seen: list[Any] = []

        @request_intercept(kinds=["llm"])
        def cooler(call: Any) -> Any:
            seen.append(call.wire)
            call.request.parameters["temperature"] = 0.25
            return call.request

        with use(cooler):
            run(server, agent, QUESTION)
        assert [request.body["temperature"] for request in server.requests] == [0.25, 0.25]
        assert len(seen) == 2
        assert all("messages" in wire or "input" in wire for wire in seen)

    def test_a_refused_model_call_sends_nothing(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """The refusal ends the run."""

        @guardrail(kinds=["llm"])
        def never(call: Any) -> str:
            return "no models"

        with use(never), pytest.raises(GuardrailRejected, match="no models"):
            run(server, agent, QUESTION)
        assert server.requests == []
        assert tree(instrumented) == [*RUN[:2], "    run_guardrail never"]
        assert not named(instrumented, RUN[1].strip()).status.is_unset

    # --- runs ---

    def test_a_refused_agent_asks_no_model(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """A guardrail knows who is asked, and what."""

        @guardrail(kinds=["agent"])
        def never(call: Any) -> str:
            return f"not {call.request.name}, about {call.request.input}"

        with use(never), pytest.raises(GuardrailRejected, match=f"not weatherman, about {QUESTION[:-1]}"):
            run(server, agent, QUESTION)
        assert server.requests == []
        assert tree(instrumented) == ["invoke_agent weatherman", "  run_guardrail never"]

    def test_what_an_agent_is_asked_may_be_changed(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """Nobody sees the question of before."""

        @request_intercept(kinds=["agent"])
        def other(call: Any) -> Any:
            return AgentRequest(call.request.name, "And in Oslo?")

        with use(other):
            run(server, agent, QUESTION)
        assert "And in Oslo?" in str(server.requests[0].body)
        assert QUESTION not in str(server.requests[0].body)
        assert (named(instrumented, RUN[0]).attributes or {})["input.value"] == "And in Oslo?"

    def test_an_answer_of_policy_stands_for_the_run(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """No model is asked."""

        @execution_intercept(kinds=["agent"])
        def known(call: Any) -> Any:
            return AgentResult("It rains.")
            yield

        with use(known):
            assert self.output_of(run(server, agent, QUESTION)) == "It rains."
        assert server.requests == []
        assert (named(instrumented, RUN[0]).attributes or {})["output.value"] == "It rains."

    # --- where policy holds ---

    def test_policy_of_a_scope_holds_for_what_runs_in_it(
        self, instrumented: Capture, server: ModelServer, run: Any, agent: Any
    ) -> None:
        """And for nothing else."""

        @guardrail(kinds=["tool"])
        def never(call: Any) -> str:
            return "not here"

        with scope("strict", "chain") as strict:
            strict.use(never)
            with pytest.raises(GuardrailRejected, match="not here"):
                run(server, agent, QUESTION)
        assert self.output_of(run(server, agent, QUESTION)) == "I was told: sunny in Rome"

    @pytest.mark.parametrize("kind", ["agent", "llm", "tool"])
    def test_policy_holds_where_nothing_is_recorded(self, server: ModelServer, run: Any, agent: Any, kind: Any) -> None:
        """Sampling switches recording, never policy."""

        @guardrail(kinds=[kind])
        def never(call: Any) -> str:
            return "not today"

        with captured(sampler=ALWAYS_OFF) as spans:
            with at_work(spans, *self.instrumentors):
                with use(never), pytest.raises(GuardrailRejected, match="not today"):
                    run(server, agent, QUESTION)
                assert self.output_of(run(server, agent, QUESTION)) == "I was told: sunny in Rome"
            assert spans.spans == ()
