"""The work that is measured: OpenAI calls against a transport in memory, the same for us and for every peer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

try:
    import httpx2 as http
except ImportError:  # the SDK before it moved to httpx2
    import httpx as http

MODEL = "gpt-5-mini"
_SENTENCE = "The harbour was quiet, and only the tide moved between the boats. "


def text(size: int) -> str:
    """Return plain prose of `size` characters."""
    return (_SENTENCE * (size // len(_SENTENCE) + 1))[:size]


class Exchange:
    """One request and its answer. `content` is both as one JSON text: what the floor carries."""

    def __init__(self, messages: list[dict[str, Any]], answer: str, *, chunks: int = 0) -> None:
        self.request: dict[str, Any] = {"model": MODEL, "messages": messages, "max_completion_tokens": 800}
        self.chunks = chunks
        if chunks:
            self.request["stream"] = True
            self.request["stream_options"] = {"include_usage": True}
        self.answer = answer
        self.content = json.dumps([*messages, {"role": "assistant", "content": answer}])
        self.body = b"" if chunks else _body(self)

    @property
    def pieces(self) -> list[str]:
        """The answer as its chunks bring it."""
        step = len(self.answer) // (self.chunks or 1)
        return [self.answer[i * step : (i + 1) * step] for i in range(self.chunks)]


def chat(size: int) -> Exchange:
    """Return a single question and answer with `size` bytes of content together."""
    return Exchange([{"role": "user", "content": text(size * 7 // 10)}], text(size * 3 // 10))


def history(messages: int) -> Exchange:
    """Return a request with a conversation of `messages` messages, about 200 characters each."""
    roles = ("user", "assistant")
    return Exchange([{"role": roles[i % 2], "content": text(200)} for i in range(messages)], text(200))


def stream(chunks: int) -> Exchange:
    """Return a streamed answer in `chunks` chunks of about 20 characters."""
    return Exchange([{"role": "user", "content": text(700)}], text(20 * chunks), chunks=chunks)


EXCHANGES: dict[str, tuple[str, Callable[[], Exchange]]] = {
    "chat-1k": ("chat, 1 KB", lambda: chat(1_000)),
    "chat-10k": ("chat, 10 KB", lambda: chat(10_000)),
    "history": ("chat, 50 messages", lambda: history(50)),
    "stream": ("stream, 50 chunks", lambda: stream(50)),
}
"""What peers are measured with: the row, what a table calls it, and the exchange."""

TOOL_ARGUMENTS = {"city": "Bergen", "days": 3, "units": "metric", "note": text(300)}
TOOL_RESULT = {"forecast": [{"day": day, "text": text(120)} for day in range(3)]}

_USAGE = {
    "prompt_tokens": 220,
    "completion_tokens": 80,
    "total_tokens": 300,
    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_JSON = {"content-type": "application/json"}
_HEAD = {"id": "chatcmpl-C9Vt1k5wzPqv0m2", "created": 1_760_000_000, "model": "gpt-5-mini-2025-08-07"}


def _body(exchange: Exchange) -> bytes:
    message = {"role": "assistant", "content": exchange.answer, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()


def _events(exchange: Exchange) -> list[bytes]:
    head = {**_HEAD, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in exchange.pieces]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}], "usage": None}
        for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    chunks.append({**head, "choices": [], "usage": _USAGE})
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def http_client(exchange: Exchange, body: Callable[[], bytes], events: list[bytes], library: Any = http) -> Any:
    """Return an HTTP client that gets what `body` returns, or `events` one by one where a stream was asked for."""
    kind = {"content-type": "text/event-stream"} if exchange.chunks else _JSON

    def answer(_: Any) -> Any:
        return library.Response(200, headers=kind, content=events if exchange.chunks else body())

    return library.Client(transport=library.MockTransport(answer))


def client(exchange: Exchange) -> openai.OpenAI:
    """Return a real client that gets the answer of `exchange` to whatever it asks."""
    return openai.OpenAI(
        api_key="none",
        base_url="http://localhost:8080/v1",
        http_client=http_client(exchange, lambda: exchange.body, _events(exchange) if exchange.chunks else []),
        max_retries=0,
    )


def create(exchange: Exchange) -> Callable[[], object]:
    """Return the call as an application makes it: `client.chat.completions.create(…)`."""
    completions, request = client(exchange).chat.completions, exchange.request

    def call() -> object:
        answer = completions.create(**request)
        if not exchange.chunks:
            return answer
        for _ in answer:
            pass
        return None

    return call


def post(exchange: Exchange) -> Callable[[], object]:
    """Return the same call without the SDK's own typed parameters and models: `client.post(…)`.

    It makes the same HTTP request and reads the same answer. The SDK's typing costs more than recording does, so
    leaving it out of both sides of a subtraction leaves its noise out too.
    """
    sdk, body = client(exchange), exchange.request

    def whole() -> object:
        return sdk.post("/chat/completions", cast_to=object, body=body)

    def streamed() -> None:
        answer = sdk.post("/chat/completions", cast_to=object, body=body, stream=True, stream_cls=openai.Stream[object])
        for _ in answer:
            pass

    return streamed if exchange.chunks else whole


class Conversation:
    """A conversation that grows: each turn sends all that was said so far, and adds a question and its answer.

    All turns have one client, and one list of messages, as in an agent. No two messages are the same.

    Args:
        size: Characters of a message.
        name: Tells its messages from those of other conversations.
    """

    def __init__(self, size: int, name: str = "") -> None:
        self._size, self._name, self._turn = size, name, 0
        self.exchange = Exchange([], "")
        self._client = client(self.exchange)

    def begin(self, turns: int = 1) -> None:
        """Say what was answered, and ask again; `turns` at once are as if the ones before had been."""
        for _ in range(turns):
            messages = self.exchange.request["messages"]
            if self._turn:
                messages.append({"role": "assistant", "content": self.exchange.answer})
            self._turn += 1
            messages.append({"role": "user", "content": self._text("question")})
            self.exchange.answer = self._text("answer")
        self.exchange.body = _body(self.exchange)

    def ask(self) -> object:
        """Send the turn, as often as one likes."""
        return self._client.post("/chat/completions", cast_to=object, body=self.exchange.request)

    @property
    def said(self) -> list[dict[str, Any]]:
        """All messages, the answer of this turn included."""
        return [*self.exchange.request["messages"], {"role": "assistant", "content": self.exchange.answer}]

    def _text(self, kind: str) -> str:
        return f"{self._name} {kind} {self._turn}: {text(self._size)}"[: self._size]


def ask_once() -> None:
    """Ask in every way that is measured."""
    for exchange in (chat(10), stream(2)):
        create(exchange)()


class Patched:
    """What an instrumentor changed in an SDK, to be taken out and put back between blocks.

    Works on the difference that `instrument()` made, so that a peer whose `uninstrument()` does nothing can be
    interleaved like the others.

    Args:
        instrument: Changes the SDK.
        use: Uses it first: an SDK loads its parts as they are used, and one that came later would look as if it had
            always been patched.
        packages: The SDK's packages.
    """

    def __init__(
        self,
        instrument: Callable[[], object],
        use: Callable[[], object] = ask_once,
        packages: tuple[str, ...] = ("openai",),
    ) -> None:
        use()
        before = _attributes(packages)
        instrument()
        owners = {key[0] for key in before}
        self._changed = [
            (owner, name, before[key][2] if key in before else _INHERITED, value)
            for key, (owner, name, value) in _attributes(packages).items()
            if (before[key][2] is not value if key in before else key[0] in owners and isinstance(owner, type))
        ]
        if not self._changed:
            raise RuntimeError("the instrumentor changed nothing in the SDK; install a version that it supports")

    def on(self) -> None:
        """Put the instrumentation in force."""
        for owner, name, _, patched in self._changed:
            setattr(owner, name, patched)

    def off(self) -> None:
        """Put the SDK back as it was."""
        for owner, name, original, _ in self._changed:
            if original is not _INHERITED:
                setattr(owner, name, original)
            elif name in vars(owner):
                delattr(owner, name)


_INHERITED = object()
"""Stands for an attribute that a class took from its base before an instrumentor gave it one of its own."""


def _attributes(packages: tuple[str, ...]) -> dict[tuple[int, str], tuple[Any, str, Any]]:
    """Return every attribute of the SDK's modules and classes, but for thousands of types."""
    found: dict[tuple[int, str], tuple[Any, str, Any]] = {}
    for module_name, module in list(sys.modules.items()):
        parts = module_name.split(".")
        if parts[0] not in packages or module is None or "types" in parts[1:3]:
            continue
        owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
        for owner in owners:
            for name, value in list(vars(owner).items()):
                if not name.startswith(("__pydantic_", "__signature__")):  # models complete themselves when first used
                    found[id(owner), name] = (owner, name, value)
    return found
