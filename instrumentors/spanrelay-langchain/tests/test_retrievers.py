"""Retrievers: each question is one span with what was found, and what a retriever asks is below it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from spanrelay import guardrail, use
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

from .ways import chat

FOUND = [Document("The sky is blue.", id="d1", metadata={"page": 3})]
ASKS: dict[str, Callable[[Any, str], Any]] = {
    "invoke": lambda retriever, query: retriever.invoke(query),
    "ainvoke": lambda retriever, query: asyncio.run(retriever.ainvoke(query)),
}
each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


class Shelf(BaseRetriever):
    """Finds one document, or nothing at all."""

    fails: bool = False
    model: Any = None

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.fails:
            raise LookupError(query)
        if self.model is not None:
            self.model.invoke(query)
        return FOUND


@each
def test_a_question_is_one_span_with_the_documents(ask: Any, instrumented: Capture) -> None:
    assert ask(Shelf(), "sky") == FOUND
    span = instrumented.span
    told = dict(span.attributes or {})
    assert (told["openinference.span.kind"], told["input.value"]) == ("RETRIEVER", "sky")
    assert json.loads(told["output.value"])[0]["page_content"] == "The sky is blue."
    assert json.loads(told["output.value"])[0]["metadata"] == {"page": 3}


@each
def test_a_failure_is_the_users(ask: Any, instrumented: Capture) -> None:
    with pytest.raises(LookupError):
        ask(Shelf(fails=True), "sky")
    assert instrumented.span.status.status_code.name == "ERROR"


def test_what_a_retriever_asks_is_below_it(instrumented: Capture, server: ModelServer) -> None:
    Shelf(model=chat(server)).invoke("sky")
    call, question = instrumented.spans
    assert call.parent is not None and question.context is not None
    assert call.parent.span_id == question.context.span_id


def test_policy_for_models_and_tools_leaves_a_retriever_alone(instrumented: Capture) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    with use(never):
        assert Shelf().invoke("sky") == FOUND
