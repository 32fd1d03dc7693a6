"""SDKs of other providers at the work that peers share: their wires, and real clients whose transport is in memory.

An SDK is imported where it is asked, and what instruments it is named only: an environment need not have them all.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

from benchmarks import workload
from benchmarks.workload import EXCHANGES, Exchange

WORK = ("chat-1k", "stream")
"""What of `workload.EXCHANGES` each SDK is asked."""

_INPUT, _CACHED, _OUTPUT = 92, 128, 80


class Call(NamedTuple):
    """A call as an application makes it; what it returns is iterated to its end if it is a stream."""

    function: Callable[..., Any]
    request: dict[str, Any]
    events: str | None = None
    """The key of the events in what is returned, where they are not it."""


@dataclass(frozen=True)
class SDK:
    """One SDK.

    Attributes:
        name: That of its row.
        title: What tables call it.
        distribution: What pip calls it.
        packages: What an instrumentor patches.
        ours: The instrumentor of SpanRelay, as `module:class`.
        call: Makes a client that gets the answer of an exchange, and says how it is asked.
        post: Makes the same call without the SDK's own types, where that can be: see `workload.post`.
    """

    name: str
    title: str
    distribution: str
    packages: tuple[str, ...]
    ours: str
    call: Callable[[Exchange], Call]
    post: Callable[[Exchange], Callable[[], object]] | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is installed, and SpanRelay's instrumentor of it."""
        try:
            version(self.distribution)
            import_module(self.ours.partition(":")[0])
        except ImportError:
            return False
        return True

    def create(self, exchange: Exchange) -> Callable[[], object]:
        """Return the call of a new client that gets the answer of `exchange`."""
        function, request, events = self.call(exchange)
        if not exchange.chunks:
            return lambda: function(**request)

        def read() -> None:
            answer = function(**request)
            for _ in answer if events is None else answer[events]:
                pass

        return read

    def plain(self, exchange: Exchange) -> Callable[[], object]:
        """Return the same call without the SDK's own types, if it can be made so."""
        return (self.post or self.create)(exchange)

    def instrumentor(self) -> Any:
        """Return SpanRelay's instrumentor."""
        module, _, name = self.ours.partition(":")
        return getattr(import_module(module), name)()

    def ask_once(self) -> None:
        """Ask in every way that is measured."""
        for exchange in (workload.chat(10), workload.stream(2)):
            self.create(exchange)()

    def patched(self, instrument: Callable[[], object]) -> workload.Patched:
        """Return what `instrument` changes in the SDK."""
        return workload.Patched(instrument, self.ask_once, self.packages)


def _openai(exchange: Exchange) -> Call:
    return Call(workload.client(exchange).chat.completions.create, exchange.request)


# --- Anthropic ---------------------------------------------------------------------------------------------


def _anthropic(exchange: Exchange) -> Call:
    usage = {"input_tokens": _INPUT, "cache_read_input_tokens": _CACHED, "output_tokens": _OUTPUT}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    head = {"id": "msg_01C9Vt1k5wzPqv0m2", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6"}
    request = {"model": head["model"], "messages": exchange.request["messages"], "max_tokens": 800}
    body = {**head, "content": [{"type": "text", "text": exchange.answer}], **ended, "usage": usage}
    if exchange.chunks:
        request["stream"] = True
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**body, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in exchange.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": _OUTPUT}},
        {"type": "message_stop"},
    ]
    told = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    whole = json.dumps(body).encode()
    client = import_module("anthropic").Anthropic(
        api_key="none",
        base_url="http://localhost:8080",
        http_client=workload.http_client(exchange, lambda: whole, told),
        max_retries=0,
    )
    return Call(client.messages.create, request)


# --- Google ------------------------------------------------------------------------------------------------


def _google(exchange: Exchange) -> Call:
    def body(text: str, **more: str) -> dict[str, Any]:
        counted = {"promptTokenCount": _INPUT + _CACHED, "cachedContentTokenCount": _CACHED}
        return {
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}],
            "usageMetadata": {**counted, "candidatesTokenCount": _OUTPUT, "totalTokenCount": 300},
            "modelVersion": "gemini-2.5-flash",
            "responseId": "C9Vt1k5wzPqv0m2",
        }

    told = [body(piece) for piece in exchange.pieces[:-1]]
    told += [body(piece, finishReason="STOP") for piece in exchange.pieces[-1:]]
    events = [f"data: {json.dumps(each)}\r\n\r\n".encode() for each in told]
    whole = json.dumps(body(exchange.answer, finishReason="STOP")).encode()
    genai = import_module("google.genai")
    api = import_module("google.genai._api_client")
    options = genai.types.HttpOptions(
        base_url="http://localhost:8080",
        httpx_client=workload.http_client(exchange, lambda: whole, events, getattr(api, "httpx2", None) or api.httpx),
    )
    models = genai.Client(api_key="none", http_options=options).models
    request = {
        "model": "gemini-2.5-flash",
        "contents": exchange.request["messages"][0]["content"],
        "config": {"max_output_tokens": 800},
    }
    return Call(models.generate_content_stream if exchange.chunks else models.generate_content, request)


# --- Amazon Bedrock ----------------------------------------------------------------------------------------


class _Raw:
    """What botocore reads an answer from."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        """Nothing is held."""


def _bedrock(exchange: Exchange) -> Call:
    usage = {"inputTokens": _INPUT, "cacheReadInputTokens": _CACHED, "outputTokens": _OUTPUT, "totalTokens": 300}
    metrics = {"latencyMs": 1}
    message = {"role": "assistant", "content": [{"text": exchange.answer}]}
    body = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": metrics}
    frames = [
        _frame("messageStart", {"role": "assistant"}),
        *(_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in exchange.pieces),
        _frame("contentBlockStop", {"contentBlockIndex": 0}),
        _frame("messageStop", {"stopReason": "end_turn"}),
        _frame("metadata", {"usage": usage, "metrics": metrics}),
    ]
    kind = "application/vnd.amazon.eventstream" if exchange.chunks else "application/json"
    raw = _Raw(frames if exchange.chunks else [json.dumps(body).encode()])
    answered = import_module("botocore.awsrequest").AWSResponse
    client = import_module("boto3").client(
        "bedrock-runtime",
        region_name="eu-north-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    client.meta.events.register(
        "before-send.bedrock-runtime",
        lambda request, **_: answered(request.url, 200, {"content-type": kind}, raw),
    )
    request = {
        "modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "messages": [{"role": "user", "content": [{"text": exchange.request["messages"][0]["content"]}]}],
        "inferenceConfig": {"maxTokens": 800},
    }
    return Call(client.converse_stream if exchange.chunks else client.converse, request, "stream")


def _frame(kind: str, payload: object) -> bytes:
    """Return one event as AWS frames it, with its two checksums."""
    told = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\7" + struct.pack(">H", len(value)) + value.encode()
        for name, value in told.items()
    )
    data = json.dumps(payload).encode()
    head = struct.pack(">II", len(headers) + len(data) + 16, len(headers))
    head += struct.pack(">I", zlib.crc32(head))
    return head + headers + data + struct.pack(">I", zlib.crc32(head + headers + data))


OPENAI = SDK("openai", "OpenAI", "openai", ("openai",), "spanrelay_openai:OpenAIInstrumentor", _openai, workload.post)
_OTHERS = (
    SDK("anthropic", "Anthropic", "anthropic", ("anthropic",), "spanrelay_anthropic:AnthropicInstrumentor", _anthropic),
    SDK(
        "google-genai", "Google", "google-genai", ("google",), "spanrelay_google_genai:GoogleGenAIInstrumentor", _google
    ),
    SDK("bedrock", "Bedrock", "boto3", ("boto3", "botocore"), "spanrelay_bedrock:BedrockInstrumentor", _bedrock),
)
SDKS = {sdk.name: sdk for sdk in _OTHERS}
"""The rows of SDKs, but for OpenAI's, which has rows of its own."""


def work_of(row: str) -> Iterator[tuple[str, Exchange]]:
    """Yield the title and the exchange of each kind of work of a row in `SDKS`."""
    for work in WORK:
        title, make = EXCHANGES[work]
        yield f"{SDKS[row].title}, {title}", make()
