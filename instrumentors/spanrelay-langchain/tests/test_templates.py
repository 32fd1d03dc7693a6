"""A model call says of which template its messages were made, and what was put in."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, MessagesPlaceholder
from langchain_core.prompts import PromptTemplate as LangChainTemplate
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from spanrelay import semconv
from spanrelay.records import PromptTemplate
from spanrelay_langchain import templates
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer

from .test_chains import ANSWER, WAYS
from .ways import fake

TEMPLATE = ChatPromptTemplate.from_messages(
    [("system", "You are {who}."), MessagesPlaceholder("history"), ("user", "{question}")]
).partial(who="a poet")
HISTORY = [HumanMessage("Hi"), SystemMessage("Rhyme.")]
GIVEN: dict[str, Any] = {"question": "Which colour has the sky?", "history": HISTORY}
TOLD = PromptTemplate(
    "You are {who}.\n{history}\n{question}", {"who": "a poet", "question": "Which colour has the sky?"}
)


def prompt_of(capture: Capture) -> PromptTemplate | None:
    [span] = capture.of("LLM")
    request = capture.record(span).request
    assert request is not None
    return request.prompt


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_call_says_of_which_template_its_messages_were_made(ask: Any, instrumented: Capture) -> None:
    assert ask(TEMPLATE | fake() | StrOutputParser(), GIVEN) == ANSWER
    assert prompt_of(instrumented) == TOLD


PLAIN = LangChainTemplate.from_template("You are {who}. {question}").partial(who="a poet")
FEW = FewShotPromptTemplate(
    examples=[{"question": "Grass?"}],
    example_prompt=LangChainTemplate.from_template("{question}"),
    suffix="{question}",
    input_variables=["question"],
)
ONE = {"question": "Which colour has the sky?"}


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (PLAIN, PromptTemplate("You are {who}. {question}", {"who": "a poet", **ONE})),
        (FEW, PromptTemplate(None, dict(ONE))),
    ],
    ids=["plain", "of examples"],
)
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_call_says_of_which_template_its_text_was_made(
    ask: Any, template: Any, told: PromptTemplate, instrumented: Capture
) -> None:
    assert ask(template | fake() | StrOutputParser(), ONE) == ANSWER
    assert prompt_of(instrumented) == told


def test_a_text_that_was_formatted_is_only_a_text(instrumented: Capture) -> None:
    fake().invoke(PLAIN.format(**ONE))
    assert prompt_of(instrumented) is None


def test_it_says_so_too_where_the_providers_call_fills_its_span(instrumented: Capture, server: ModelServer) -> None:
    model = ChatOpenAI(model="gpt-5", base_url=server.url, api_key=SecretStr("none"))
    model.invoke(TEMPLATE.format_messages(**GIVEN))
    assert prompt_of(instrumented) == TOLD


def test_template_and_variables_are_content_in_openinferences_names(instrumented: Capture) -> None:
    (TEMPLATE | fake()).invoke(GIVEN)
    [span] = instrumented.of("LLM")
    record = instrumented.record(span)
    assert "prompt_template" not in repr(semconv.write(record, "openinference", content=False))
    written = semconv.write(record, "openinference", content=True)
    assert written["llm.prompt_template.template"] == TOLD.template
    assert written["llm.prompt_template.variables"] == '{"who":"a poet","question":"Which colour has the sky?"}'


def test_messages_that_were_only_put_into_a_template_are_not_made_of_it(instrumented: Capture) -> None:
    TEMPLATE.format_messages(**GIVEN)
    fake().invoke(HISTORY)
    assert prompt_of(instrumented) is None


def test_what_was_made_of_a_template_is_forgotten_with_it(instrumented: Capture, server: ModelServer) -> None:
    before = set(templates._made)
    messages = TEMPLATE.format_messages(**GIVEN)
    ChatOpenAI(model="gpt-5", base_url=server.url, api_key=SecretStr("none")).invoke(messages)
    assert templates.template_of(messages) == TOLD
    del messages
    instrumented.clear()  # it keeps every call
    gc.collect()
    assert set(templates._made) <= before
