"""Whole spans: every attribute of models' answers, a tool and a retriever, in both dialects, with content.

What the provider's call beneath fills is told in the README of the provider's package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache

from spanrelay_langchain import LangChainInstrumentor, __version__
from spanrelay_testkit.capture import captured

from .test_completions import Streaming
from .test_embeddings import Plain
from .test_retrievers import Shelf
from .test_tools import get_weather
from .ways import fake

README = Path(__file__).parents[1] / "README.md"
TIME = "a time"
ASKED = '[{"role":"user","parts":[{"type":"text","content":"Which colour has the sky?"}]}]'
BRIEFED = '[{"role":"system","parts":[{"type":"text","content":"Be brief."}]},' + ASKED[1:]


def chat() -> None:
    fake().bind(stop=["END"], temperature=0.5).invoke([("system", "Be brief."), ("user", "Which colour has the sky?")])


def stream() -> None:
    list(fake().stream("Which colour has the sky?"))


def cached() -> None:
    model = fake(cache=InMemoryCache())
    for _ in range(2):
        model.invoke("Which colour has the sky?")


def failed() -> None:
    with pytest.raises(ConnectionError):
        fake(fails=True).invoke("Which colour has the sky?")


def tool() -> None:
    get_weather.invoke({"type": "tool_call", "name": "get_weather", "args": {"city": "Oslo"}, "id": "call_1"})


def retriever() -> None:
    Shelf().invoke("sky")


def completion() -> None:
    Streaming().invoke("Which colour has the sky?", stop=["END"])


def embeddings() -> None:
    Plain().embed_query("sky")


CALLS = {
    "chat": chat,
    "stream": stream,
    "cached": cached,
    "failed": failed,
    "tool": tool,
    "retriever": retriever,
    "completion": completion,
    "embeddings": embeddings,
}


def attributes_of(name: str, dialect: str, *, content: bool = True) -> dict[str, Any]:
    """Make a call and return everything its last span says."""
    with captured(dialect=dialect, content=content) as spans:
        instrumentor = LangChainInstrumentor()
        instrumentor.instrument(tracer_provider=spans.provider)
        try:
            CALLS[name]()
        finally:
            instrumentor.uninstrument()
        span = spans.spans[-1]
        scope = span.instrumentation_scope
        assert scope is not None and (scope.name, scope.version) == ("spanrelay_langchain", __version__)
        attributes = dict(span.attributes or {})
    if "gen_ai.response.time_to_first_chunk" in attributes:
        attributes["gen_ai.response.time_to_first_chunk"] = TIME
    return attributes


EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "genai": {
        "chat": {
            "gen_ai.input.messages": BRIEFED,
            "gen_ai.operation.name": "chat",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Blue like the sea."}]}]',
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.model": "fake-1-2026",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 4,
            "llm.model_name": "fake-1-2026",
            "llm.provider": "fake",
            "llm.token_count.completion": 4,
            "llm.token_count.prompt": 7,
            "llm.token_count.total": 11,
            "openinference.span.kind": "LLM",
        },
        "stream": {
            "gen_ai.input.messages": ASKED,
            "gen_ai.operation.name": "chat",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Blue like the sea."}]}]',
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": TIME,
            "llm.model_name": "fake-1",
            "llm.provider": "fake",
            "openinference.span.kind": "LLM",
        },
        "cached": {
            "gen_ai.input.messages": ASKED,
            "gen_ai.operation.name": "chat",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Blue like the sea."}]}]',
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "gen_ai.response.model": "fake-1-2026",
            "llm.model_name": "fake-1-2026",
            "llm.provider": "fake",
            "openinference.span.kind": "LLM",
            "spanrelay.answered_by": "langchain cache",
        },
        "failed": {
            "error.type": "ConnectionError",
            "gen_ai.input.messages": ASKED,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "llm.model_name": "fake-1",
            "llm.provider": "fake",
            "openinference.span.kind": "LLM",
        },
        "tool": {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.call.arguments": '{"city":"Oslo"}',
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.tool.call.result": "rain in Oslo",
            "gen_ai.tool.description": "The weather of a city.",
            "gen_ai.tool.name": "get_weather",
            "openinference.span.kind": "TOOL",
            "tool.id": "call_1",
            "tool.name": "get_weather",
        },
        "retriever": {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.documents": '[{"id":"d1"}]',
            "gen_ai.retrieval.query.text": "sky",
            "input.mime_type": "text/plain",
            "input.value": "sky",
            "openinference.span.kind": "RETRIEVER",
            "output.mime_type": "application/json",
            "output.value": '[{"id":"d1","metadata":{"page":3},"page_content":"The sky is blue.","type":"Document"}]',
        },
        "completion": {
            "gen_ai.input.messages": ASKED,
            "gen_ai.operation.name": "text_completion",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Blue like the sea."}]}]',
            "gen_ai.provider.name": "streaming",
            "gen_ai.request.model": "fake-1",
            "gen_ai.request.stop_sequences": ("END",),
            "llm.model_name": "fake-1",
            "llm.provider": "streaming",
            "openinference.span.kind": "LLM",
        },
        "embeddings": {
            "embedding.model_name": "plain-1",
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"sky"}]}]',
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "langchain",
            "gen_ai.request.model": "plain-1",
            "llm.provider": "langchain",
            "openinference.span.kind": "EMBEDDING",
            "spanrelay.response.parameters": '{"embedding_count":1,"embedding_dimensions":2}',
        },
    },
    "openinference": {
        "chat": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "input.mime_type": "text/plain",
            "input.value": "Which colour has the sky?",
            "llm.input_messages.0.message.content": "Be brief.",
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.1.message.content": "Which colour has the sky?",
            "llm.input_messages.1.message.role": "user",
            "llm.invocation_parameters": '{"model":"fake-1","stop":["END"],"temperature":0.5}',
            "llm.model_name": "fake-1-2026",
            "llm.output_messages.0.message.content": "Blue like the sea.",
            "llm.output_messages.0.message.role": "assistant",
            "llm.provider": "fake",
            "llm.request.model_name": "fake-1",
            "llm.response.model_name": "fake-1-2026",
            "llm.token_count.completion": 4,
            "llm.token_count.prompt": 7,
            "llm.token_count.total": 11,
            "openinference.span.kind": "LLM",
            "output.mime_type": "text/plain",
            "output.value": "Blue like the sea.",
        },
        "stream": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "gen_ai.response.time_to_first_chunk": TIME,
            "input.mime_type": "text/plain",
            "input.value": "Which colour has the sky?",
            "llm.input_messages.0.message.content": "Which colour has the sky?",
            "llm.input_messages.0.message.role": "user",
            "llm.invocation_parameters": '{"model":"fake-1","stream":true}',
            "llm.model_name": "fake-1",
            "llm.output_messages.0.message.content": "Blue like the sea.",
            "llm.output_messages.0.message.role": "assistant",
            "llm.provider": "fake",
            "llm.request.model_name": "fake-1",
            "openinference.span.kind": "LLM",
            "output.mime_type": "text/plain",
            "output.value": "Blue like the sea.",
        },
        "cached": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "input.mime_type": "text/plain",
            "input.value": "Which colour has the sky?",
            "llm.input_messages.0.message.content": "Which colour has the sky?",
            "llm.input_messages.0.message.role": "user",
            "llm.invocation_parameters": '{"model":"fake-1"}',
            "llm.model_name": "fake-1-2026",
            "llm.output_messages.0.message.content": "Blue like the sea.",
            "llm.output_messages.0.message.role": "assistant",
            "llm.provider": "fake",
            "llm.request.model_name": "fake-1",
            "llm.response.model_name": "fake-1-2026",
            "openinference.span.kind": "LLM",
            "output.mime_type": "text/plain",
            "output.value": "Blue like the sea.",
            "spanrelay.answered_by": "langchain cache",
        },
        "failed": {
            "error.type": "ConnectionError",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "fake",
            "gen_ai.request.model": "fake-1",
            "input.mime_type": "text/plain",
            "input.value": "Which colour has the sky?",
            "llm.input_messages.0.message.content": "Which colour has the sky?",
            "llm.input_messages.0.message.role": "user",
            "llm.invocation_parameters": '{"model":"fake-1"}',
            "llm.model_name": "fake-1",
            "llm.provider": "fake",
            "llm.request.model_name": "fake-1",
            "openinference.span.kind": "LLM",
        },
        "tool": {
            "gen_ai.operation.name": "execute_tool",
            "input.mime_type": "application/json",
            "input.value": '{"city":"Oslo"}',
            "openinference.span.kind": "TOOL",
            "output.mime_type": "text/plain",
            "output.value": "rain in Oslo",
            "tool.description": "The weather of a city.",
            "tool.id": "call_1",
            "tool.name": "get_weather",
        },
        "retriever": {
            "gen_ai.operation.name": "retrieval",
            "input.mime_type": "text/plain",
            "input.value": "sky",
            "openinference.span.kind": "RETRIEVER",
            "output.mime_type": "application/json",
            "output.value": '[{"id":"d1","metadata":{"page":3},"page_content":"The sky is blue.","type":"Document"}]',
        },
        "completion": {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "streaming",
            "gen_ai.request.model": "fake-1",
            "input.mime_type": "text/plain",
            "input.value": "Which colour has the sky?",
            "llm.invocation_parameters": '{"model":"fake-1","stop":["END"]}',
            "llm.model_name": "fake-1",
            "llm.choices.0.completion.text": "Blue like the sea.",
            "llm.prompts.0.prompt.text": "Which colour has the sky?",
            "llm.provider": "streaming",
            "llm.request.model_name": "fake-1",
            "openinference.span.kind": "LLM",
            "output.mime_type": "text/plain",
            "output.value": "Blue like the sea.",
        },
        "embeddings": {
            "embedding.embeddings.0.embedding.text": "sky",
            "embedding.invocation_parameters": '{"model":"plain-1"}',
            "embedding.model_name": "plain-1",
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "langchain",
            "gen_ai.request.model": "plain-1",
            "input.mime_type": "text/plain",
            "input.value": "sky",
            "llm.provider": "langchain",
            "llm.request.model_name": "plain-1",
            "openinference.span.kind": "EMBEDDING",
            "output.mime_type": "application/json",
            "output.value": '{"embedding_count":1,"embedding_dimensions":2}',
        },
    },
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_a_span_says_all_of_this_and_nothing_else(name: str, dialect: str) -> None:
    assert attributes_of(name, dialect) == EXPECTED[dialect][name]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_without_content_the_rest_is_the_same(name: str, dialect: str) -> None:
    kept = {key: value for key, value in EXPECTED[dialect][name].items() if not is_content(key)}
    assert attributes_of(name, dialect, content=False) == kept


# --- the table in the README ---

ROW = re.compile(r"^\| `([^`]+)` \| ?(yes|content|) ?\| ?(yes|content|) ?\|", re.MULTILINE)
CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "input.",
    "output.",
    "llm.input_messages",
    "llm.output_messages",
    "embedding.embeddings",
    "gen_ai.retrieval",
    "llm.prompts",
    "llm.choices",
    "tool.parameters",
    "tool_call.function.arguments",
)


def is_content(key: str) -> bool:
    return key.startswith(CONTENT)


@pytest.mark.parametrize("dialect", ["genai", "openinference"])
def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(dialect: str) -> None:
    column = 2 if dialect == "genai" else 3
    rows = {row[1]: row[column] for row in ROW.finditer(README.read_text()) if row[column]}
    assert rows == {
        re.sub(r"\.\d+(?=\.)", ".N", key): "content" if is_content(key) else "yes"
        for attributes in EXPECTED[dialect].values()
        for key in attributes
    }
