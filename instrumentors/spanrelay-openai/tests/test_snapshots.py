"""Whole spans: every attribute of one call of each kind, in both dialects, with content and without.

Ids are counted; the only things left open are how long a stream's first chunk took and the server's port.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_openai import OpenAIInstrumentor, __version__
from spanrelay_testkit.capture import captured
from spanrelay_testkit.exchange import Answer, Usage, error, reply, tool_call
from spanrelay_testkit.model_server import ModelServer

TIME = "a time"
PORT = "the server's port"
README = Path(__file__).parents[1] / "README.md"
QUESTION: Any = {"role": "user", "content": "Which colour has the sky?"}
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def chat(client: openai.OpenAI) -> None:
    system: Any = {"role": "system", "content": "Be brief."}
    client.chat.completions.create(
        model="gpt-5", messages=[system, QUESTION], temperature=0.5, max_completion_tokens=20
    )


def stream(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    for _ in client.chat.completions.create(model="gpt-5", messages=[QUESTION], stream=True, stream_options=options):
        pass


def tools(client: openai.OpenAI) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bergen"}'}}
    history: Any = [
        {"role": "user", "content": "Bergen and Oslo?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
    ]
    client.chat.completions.create(model="gpt-5", messages=history, tools=[{"type": "function", "function": WEATHER}])


def responses(client: openai.OpenAI) -> None:
    client.responses.create(
        model="gpt-5", instructions="Be brief.", input=QUESTION["content"], reasoning={"effort": "low"}
    )


def embeddings(client: openai.OpenAI) -> None:
    client.embeddings.create(model="text-embedding-3-small", input=["sky", "sea"], dimensions=4)


def refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-5", messages=[QUESTION])


CALLS: dict[str, tuple[Answer, Callable[[openai.OpenAI], None]]] = {
    "chat": (reply("Blue.", usage=Usage(12, 2, cached=4)), chat),
    "stream": (reply("Blue."), stream),
    "tools": (reply("Let me look.", tool_calls=[tool_call("get_weather", city="Oslo", id="call_1")]), tools),
    "responses": (reply("Blue.", reasoning="The sky scatters."), responses),
    "embeddings": (reply(), embeddings),
    "error": (error(429), refused),
}


def span_of(name: str, dialect: str, *, content: bool) -> dict[str, Any]:
    """Make a call and return its whole span."""
    answer, ask = CALLS[name]
    with captured(dialect=dialect, content=content) as spans:
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(tracer_provider=spans.provider)
        try:
            with ModelServer([answer]) as server:
                with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
                    ask(client)
                port = int(server.address.rpartition(":")[2])
        finally:
            instrumentor.uninstrument()
        return whole(spans.span, port)


def whole(span: ReadableSpan, port: int) -> dict[str, Any]:
    """Everything a span says, with what differs from run to run named instead."""
    attributes = dict(span.attributes or {})
    assert attributes["server.port"] == port
    attributes["server.port"] = PORT
    if "gen_ai.response.time_to_first_chunk" in attributes:
        seconds: Any = attributes["gen_ai.response.time_to_first_chunk"]
        assert 0 < seconds < 30
        attributes["gen_ai.response.time_to_first_chunk"] = TIME
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time < span.end_time
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": (span.status.status_code.name, span.status.description),
        "ids": (context.trace_id, context.span_id, span.parent),
        "scope": (scope.name, scope.version, scope.schema_url),
        "events": [event.name for event in span.events],
        "links": list(span.links),
        "attributes": attributes,
    }


def expected(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """The whole span of a call, by what is its own."""
    title = "embeddings text-embedding-3-small" if name == "embeddings" else "chat gpt-5"
    failed = ("ERROR", "Error code: 429 - scripted failure 429")
    return {
        "name": title,
        "kind": "CLIENT",
        "status": failed if name == "error" else ("UNSET", None),
        "ids": (1, 1, None),
        "scope": ("spanrelay_openai", __version__, "https://opentelemetry.io/schemas/1.41.0"),
        "events": ["exception"] if name == "error" else [],
        "links": [],
        "attributes": attributes,
    }


GENAI: dict[str, dict[str, Any]] = {
    "chat": {
        "gen_ai.input.messages": (
            '[{"role":"system","parts":[{"type":"text","content":"Be brief."}]},{"role":"user",'
            '"parts":[{"type":"text","content":"Which colour has the sky?"}]}]'
        ),
        "gen_ai.operation.name": "chat",
        "gen_ai.output.messages": (
            '[{"role":"assistant","parts":[{"type":"text","content":"Blue."}],"finish_reason":"stop"}]'
        ),
        "gen_ai.provider.name": "openai",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.usage.audio.input_tokens": 0,
        "gen_ai.usage.audio.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.token_count.completion": 2,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 12,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 4,
        "llm.token_count.total": 14,
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_testkit",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "stream": {
        "gen_ai.input.messages": ('[{"role":"user","parts":[{"type":"text","content":"Which colour has the sky?"}]}]'),
        "gen_ai.operation.name": "chat",
        "gen_ai.output.messages": (
            '[{"role":"assistant","parts":[{"type":"text","content":"Blue."}],"finish_reason":"stop"}]'
        ),
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.response.time_to_first_chunk": TIME,
        "gen_ai.usage.audio.input_tokens": 0,
        "gen_ai.usage.audio.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.token_count.completion": 1,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 6,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 7,
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_testkit",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "tools": {
        "gen_ai.input.messages": (
            '[{"role":"user","parts":[{"type":"text","content":"Bergen and Oslo?"}]},{"role":"assistant",'
            '"parts":[{"type":"tool_call","id":"call_0","name":"get_weather",'
            '"arguments":{"city":"Bergen"}}]},{"role":"tool","parts":[{"type":"tool_call_response",'
            '"id":"call_0","response":"rain"}]}]'
        ),
        "gen_ai.operation.name": "chat",
        "gen_ai.output.messages": (
            '[{"role":"assistant","parts":[{"type":"text","content":"Let me look."},{"type":"tool_call",'
            '"id":"call_1","name":"get_weather","arguments":{"city":"Oslo"}}],"finish_reason":"tool_call"}]'
        ),
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.tool.definitions": (
            '[{"type":"function","name":"get_weather","description":"The weather of a city.",'
            '"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}]'
        ),
        "gen_ai.usage.audio.input_tokens": 0,
        "gen_ai.usage.audio.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.input_tokens": 13,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.token_count.completion": 6,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 13,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 19,
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_testkit",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "responses": {
        "gen_ai.input.messages": ('[{"role":"user","parts":[{"type":"text","content":"Which colour has the sky?"}]}]'),
        "gen_ai.operation.name": "chat",
        "gen_ai.output.messages": (
            '[{"role":"assistant","parts":[{"type":"reasoning","content":"The sky scatters.","id":"rs_1"},'
            '{"type":"text","content":"Blue."}],"finish_reason":"stop"}]'
        ),
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.token_count.completion": 4,
        "llm.token_count.completion_details.reasoning": 3,
        "llm.token_count.prompt": 7,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 11,
        "openai.response.service_tier": "default",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
        "spanrelay.response.parameters": '{"status":"completed"}',
    },
    "embeddings": {
        "embedding.model_name": "text-embedding-3-small",
        "gen_ai.embeddings.dimension.count": 4,
        "gen_ai.input.messages": (
            '[{"role":"user","parts":[{"type":"text","content":"sky"}]},{"role":"user",'
            '"parts":[{"type":"text","content":"sea"}]}]'
        ),
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.encoding_formats": ("base64",),
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.response.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": 2,
        "llm.provider": "openai",
        "llm.system": "openai",
        "llm.token_count.prompt": 2,
        "llm.token_count.total": 2,
        "openinference.span.kind": "EMBEDDING",
        "server.address": "127.0.0.1",
        "server.port": PORT,
        "spanrelay.response.parameters": '{"embedding_count":2,"embedding_dimensions":4}',
    },
    "error": {
        "error.type": "openai.RateLimitError",
        "gen_ai.input.messages": ('[{"role":"user","parts":[{"type":"text","content":"Which colour has the sky?"}]}]'),
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "http.response.status_code": 429,
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.system": "openai",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
        "spanrelay.error.code": "429",
    },
}

OPENINFERENCE: dict[str, dict[str, Any]] = {
    "chat": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.id": "chatcmpl-1",
        "input.mime_type": "text/plain",
        "input.value": "Which colour has the sky?",
        "llm.finish_reason": "stop",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.1.message.content": "Which colour has the sky?",
        "llm.input_messages.1.message.role": "user",
        "llm.invocation_parameters": '{"model":"gpt-5","max_tokens":20,"temperature":0.5}',
        "llm.model_name": "gpt-5",
        "llm.output_messages.0.message.content": "Blue.",
        "llm.output_messages.0.message.role": "assistant",
        "llm.provider": "openai",
        "llm.request.model_name": "gpt-5",
        "llm.response.model_name": "gpt-5",
        "llm.system": "openai",
        "llm.token_count.completion": 2,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 12,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 4,
        "llm.token_count.total": 14,
        "openinference.span.kind": "LLM",
        "output.mime_type": "text/plain",
        "output.value": "Blue.",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "stream": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.time_to_first_chunk": TIME,
        "input.mime_type": "text/plain",
        "input.value": "Which colour has the sky?",
        "llm.finish_reason": "stop",
        "llm.input_messages.0.message.content": "Which colour has the sky?",
        "llm.input_messages.0.message.role": "user",
        "llm.invocation_parameters": '{"model":"gpt-5","stream":true}',
        "llm.model_name": "gpt-5",
        "llm.output_messages.0.message.content": "Blue.",
        "llm.output_messages.0.message.role": "assistant",
        "llm.provider": "openai",
        "llm.request.model_name": "gpt-5",
        "llm.response.model_name": "gpt-5",
        "llm.system": "openai",
        "llm.token_count.completion": 1,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 6,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 7,
        "openinference.span.kind": "LLM",
        "output.mime_type": "text/plain",
        "output.value": "Blue.",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "tools": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.id": "chatcmpl-1",
        "input.mime_type": "text/plain",
        "input.value": "rain",
        "llm.finish_reason": "tool_calls",
        "llm.input_messages.0.message.content": "Bergen and Oslo?",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.arguments": '{"city":"Bergen"}',
        "llm.input_messages.1.message.tool_calls.0.tool_call.function.name": "get_weather",
        "llm.input_messages.1.message.tool_calls.0.tool_call.id": "call_0",
        "llm.input_messages.2.message.content": "rain",
        "llm.input_messages.2.message.role": "tool",
        "llm.input_messages.2.message.tool_call_id": "call_0",
        "llm.invocation_parameters": '{"model":"gpt-5"}',
        "llm.model_name": "gpt-5",
        "llm.output_messages.0.message.content": "Let me look.",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"city":"Oslo"}',
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "get_weather",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "call_1",
        "llm.provider": "openai",
        "llm.request.model_name": "gpt-5",
        "llm.response.model_name": "gpt-5",
        "llm.system": "openai",
        "llm.token_count.completion": 6,
        "llm.token_count.completion_details.audio": 0,
        "llm.token_count.completion_details.reasoning": 0,
        "llm.token_count.prompt": 13,
        "llm.token_count.prompt_details.audio": 0,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 19,
        "llm.tools.0.tool.json_schema": (
            '{"type":"function","function":{"name":"get_weather","description":"The weather of a city.",'
            '"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}'
        ),
        "openinference.span.kind": "LLM",
        "output.mime_type": "text/plain",
        "output.value": "Let me look.",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "responses": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.id": "resp_1",
        "input.mime_type": "text/plain",
        "input.value": "Which colour has the sky?",
        "llm.finish_reason": "stop",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.1.message.content": "Which colour has the sky?",
        "llm.input_messages.1.message.role": "user",
        "llm.invocation_parameters": '{"model":"gpt-5","reasoning_effort":"low"}',
        "llm.model_name": "gpt-5",
        "llm.output_messages.0.message.contents.0.message_content.id": "rs_1",
        "llm.output_messages.0.message.contents.0.message_content.text": "The sky scatters.",
        "llm.output_messages.0.message.contents.0.message_content.type": "reasoning",
        "llm.output_messages.0.message.contents.1.message_content.text": "Blue.",
        "llm.output_messages.0.message.contents.1.message_content.type": "text",
        "llm.output_messages.0.message.role": "assistant",
        "llm.provider": "openai",
        "llm.request.model_name": "gpt-5",
        "llm.response.model_name": "gpt-5",
        "llm.system": "openai",
        "llm.token_count.completion": 4,
        "llm.token_count.completion_details.reasoning": 3,
        "llm.token_count.prompt": 7,
        "llm.token_count.prompt_details.cache_read": 0,
        "llm.token_count.total": 11,
        "openinference.span.kind": "LLM",
        "output.mime_type": "text/plain",
        "output.value": "Blue.",
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "embeddings": {
        "embedding.embeddings.0.embedding.text": "sky",
        "embedding.embeddings.1.embedding.text": "sea",
        "embedding.invocation_parameters": (
            '{"model":"text-embedding-3-small","dimensions":4,"encoding_format":"base64"}'
        ),
        "embedding.model_name": "text-embedding-3-small",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "input.mime_type": "text/plain",
        "input.value": "sea",
        "llm.provider": "openai",
        "llm.request.model_name": "text-embedding-3-small",
        "llm.response.model_name": "text-embedding-3-small",
        "llm.system": "openai",
        "llm.token_count.prompt": 2,
        "llm.token_count.total": 2,
        "openinference.span.kind": "EMBEDDING",
        "output.mime_type": "application/json",
        "output.value": '{"embedding_count":2,"embedding_dimensions":4}',
        "server.address": "127.0.0.1",
        "server.port": PORT,
    },
    "error": {
        "error.type": "openai.RateLimitError",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "http.response.status_code": 429,
        "input.mime_type": "text/plain",
        "input.value": "Which colour has the sky?",
        "llm.input_messages.0.message.content": "Which colour has the sky?",
        "llm.input_messages.0.message.role": "user",
        "llm.invocation_parameters": '{"model":"gpt-5"}',
        "llm.model_name": "gpt-5",
        "llm.provider": "openai",
        "llm.request.model_name": "gpt-5",
        "llm.system": "openai",
        "openinference.span.kind": "LLM",
        "server.address": "127.0.0.1",
        "server.port": PORT,
        "spanrelay.error.code": "429",
    },
}


ATTRIBUTES = {"genai": GENAI, "openinference": OPENINFERENCE}
CONTENT = {
    "genai": (
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.definitions",
    ),
    "openinference": (
        "input.",
        "output.",
        "llm.input_messages.",
        "llm.output_messages.",
        "llm.tools.",
        "embedding.embeddings.",
    ),
}
"""What the attributes begin with that carry what was said."""


@pytest.mark.parametrize("dialect", ATTRIBUTES)
@pytest.mark.parametrize("name", CALLS)
def test_the_whole_span_of_a_call(name: str, dialect: str) -> None:
    assert span_of(name, dialect, content=True) == expected(name, ATTRIBUTES[dialect][name])


@pytest.mark.parametrize("dialect", ATTRIBUTES)
@pytest.mark.parametrize("name", CALLS)
def test_without_content_the_span_is_the_same_but_for_what_was_said(name: str, dialect: str) -> None:
    attributes = ATTRIBUTES[dialect][name].items()
    left = {key: value for key, value in attributes if not key.startswith(CONTENT[dialect])}
    assert len(left) < len(attributes)
    assert span_of(name, dialect, content=False) == expected(name, left)


# --- the table in the README ---

ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)


def documented(dialect: str) -> dict[str, str]:
    """The attributes that the README names for a dialect: `yes` or `content` each."""
    rows = list(ROW.finditer(README.read_text()))
    assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
    return {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}


@pytest.mark.parametrize("dialect", ATTRIBUTES)
def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(dialect: str) -> None:
    assert documented(dialect) == {
        re.sub(r"\.\d+(?=\.)", ".N", key): "content" if key.startswith(CONTENT[dialect]) else "yes"
        for attributes in ATTRIBUTES[dialect].values()
        for key in attributes
    }
