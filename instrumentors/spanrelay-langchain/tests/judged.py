"""Policy around models of both kinds, chat models and others: refused, answered for, changed, each way of asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from spanrelay import GuardrailRejected, execution_intercept, guardrail, stream_intercept
from spanrelay.records import Message, ModelResponse, Text, Usage
from spanrelay_testkit.capture import Capture, asked, said
from spanrelay_testkit.model_server import ModelServer

QUESTION = "Which colour has the sky?"
ANSWER = "Blue like the sea."


def answer(text: str) -> ModelResponse:
    """An answer of policy, with what LangChain reads of each answer to a completion."""
    return ModelResponse(messages=[Message("assistant", [Text(text)])], usage=Usage(0, 0, 0))


class JudgedModels:
    """Derive as `Test…` and supply the hooks; the model says `ANSWER`."""

    ways: ClassVar[Mapping[str, Callable[[Any, Any], str]]]
    """Each way of asking, streams among them."""
    streams: ClassVar[Mapping[str, Callable[[Any, Any], str]]]

    def model(self, server: ModelServer | None = None) -> Any:
        """A model whose provider is `server`, or one that nobody patches, which keeps in `asked` what it was asked."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name, ways in (("ask", self.ways), ("stream", self.streams)):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, list(ways.values()), ids=list(ways))

    @pytest.mark.parametrize("where", ["provider", "model"])
    def test_a_refused_call_sends_nothing(
        self, ask: Any, where: str, instrumented: Capture, server: ModelServer, policy: Any
    ) -> None:
        @guardrail
        def never(call: Any) -> str:
            return "not today"

        policy(never)
        model = self.model(server if where == "provider" else None)
        with pytest.raises(GuardrailRejected, match="not today"):
            ask(model, QUESTION)
        assert server.requests == [] and (where == "provider" or model.asked == [])
        verdict, call = instrumented.spans
        assert verdict.parent is not None and call.context is not None
        assert verdict.parent.span_id == call.context.span_id
        assert (asked(call), call.status.status_code.name) == (QUESTION, "ERROR")

    @pytest.mark.parametrize("where", ["provider", "model"])
    def test_policy_answers_in_the_models_place(
        self, ask: Any, where: str, instrumented: Capture, server: ModelServer, policy: Any
    ) -> None:
        @execution_intercept
        def canned(call: Any) -> Any:
            return answer("No comment.")
            yield

        policy(canned)
        assert ask(self.model(server if where == "provider" else None), QUESTION) == "No comment."
        assert server.requests == []
        assert said(instrumented.span) == "No comment."
        assert (instrumented.span.attributes or {})["spanrelay.answered_by"] == "canned"

    def test_policy_changes_the_answer(self, ask: Any, instrumented: Capture, policy: Any) -> None:
        @execution_intercept(buffered=True)
        def shout(call: Any) -> Any:
            response = yield call
            return answer(response.record.text.upper())

        policy(shout)
        assert ask(self.model(), QUESTION) == said(instrumented.span) == ANSWER.upper()

    def test_a_stream_intercept_changes_text_across_chunks(
        self, stream: Any, instrumented: Capture, policy: Any
    ) -> None:
        @stream_intercept(hold_back=12)
        def mask(call: Any, text: str) -> str:
            return text.replace("like the", "****")

        policy(mask)
        assert stream(self.model(), QUESTION) == said(instrumented.span) == "Blue **** sea."
