"""What goes over the wire in a test: the request that arrived and the answer to give.

Neutral on purpose: a `Reply` says what the model says, the `*_wire` modules say it in the shape of one API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal

ROUTE = re.compile(
    r"/((?<=/v2/)(?:chat|embed|rerank)(?=$)|(?:chat|agents)/completions|responses|embeddings|completions|messages|models|api/(?:chat|generate|embed))(?:/([^/]+))?$"
)
BEDROCK = re.compile(r"/model/(.+)/(converse|invoke)(-stream|-with-response-stream)?$")
GEMINI = re.compile(r"/(?:models|tunedModels)/([^/:]+):(\w+)$")
DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the server received it."""

    method: str
    path: str
    """Without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    raw: bytes
    body: Any
    """The parsed JSON; None when there is no body or it is not JSON."""

    @property
    def api(self) -> str:
        """`chat/completions`, `responses` …, `models`; "" when unknown.

        At Bedrock it is `converse` or `invoke`, at Gemini's APIs the action, as `generateContent`.
        """
        if bedrock := BEDROCK.search(self.path):
            return bedrock.group(2)
        found, action = ROUTE.search(self.path), GEMINI.search(self.path)
        return action.group(2) if action else found.group(1) if found else ""

    @property
    def item(self) -> str | None:
        """The id behind the route, as in `/v1/models/gpt-5`."""
        found = ROUTE.search(self.path)
        return found.group(2) if found else None

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the JSON body."""
        value = self.body.get(name) if isinstance(self.body, dict) else None
        return default if value is None else value

    @property
    def streamed(self) -> bool:
        """Whether the client asked for a stream."""
        bedrock = BEDROCK.search(self.path)
        by_path = self.api == "streamGenerateContent" or (bedrock is not None and bedrock.group(3) is not None)
        return self.get("stream") is True or by_path

    @property
    def model(self) -> str:
        """The model named in Gemini's or Bedrock's path, else in the body, else the deployment in Azure's path."""
        if named := BEDROCK.search(self.path) or GEMINI.search(self.path):
            return named.group(1)
        deployment = DEPLOYMENT.search(self.path)
        return str(self.get("model") or (deployment.group(1) if deployment else "unknown-model"))

    @property
    def words(self) -> int:
        """Words in the prompt: what this server counts as input tokens."""
        return sum(
            len(text.split())
            for name in ("instructions", "system", "systemInstruction", "messages", "input", "prompt", "contents")
            for text in strings_in(self.get(name))
        )

    @property
    def last_user_text(self) -> str:
        """The text of the last user message (or of a plain string input or prompt)."""
        turns = self.get("messages") or self.get("input") or self.get("prompt") or self.get("contents") or ""
        if isinstance(turns, str):
            return turns
        for turn in reversed(turns):
            if isinstance(turn, str):
                return turn
            if isinstance(turn, dict) and turn.get("role") == "user":
                return " ".join(texts_of(turn.get("content") or turn.get("parts")))
        return ""


def strings_in(value: Any) -> Iterable[str]:
    """Every string inside JSON, keys aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)


def texts_of(content: Any) -> list[str]:
    """The texts of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str)]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for; a string of arguments goes out as it is, also when it is not JSON."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    id: str | None = None
    """None: the server makes one from the answer's number."""
    namespace: str | None = None
    """The group of tools that it is of, in Responses alone."""

    @property
    def arguments_text(self) -> str:
        """The arguments as the wire carries them."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; each API's names for them are its wire module's business."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How any answer is delivered."""

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    gzip: bool = False
    """Compress the body, streams event by event."""
    hold: Event | None = None
    """Wait for it after `hold_after` events (a body that is no stream: before the status line)."""
    hold_after: int = 0
    cut_after: int | None = None
    """Drop the connection after so many events (a body that is no stream: bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Answer):
    """What a model says."""

    text: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    """None: `tool_calls` when there are any, else `stop`."""
    usage: Usage | Mapping[str, Any] | Literal["counted"] | None = "counted"
    """`counted`: words; a mapping goes out as it is; None leaves usage away."""
    choices: Sequence[Reply] = ()
    """More than one candidate (chat and legacy completions); then the fields above are not used."""
    chunk_words: int = 1
    """Words per event of a stream."""
    in_stream_error: Mapping[str, Any] | None = None
    """An error object that ends the stream in place of the finish, after all of the text."""
    model: str | None = None
    """The model that answered; None: the one asked for."""

    @property
    def finish(self) -> str:
        """The finish reason in the words of chat completions."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")

    @property
    def candidates(self) -> Sequence[Reply]:
        """The choices, or this reply alone."""
        return self.choices or (self,)

    def counted(self, request: Request) -> Usage:
        """Words in and words out."""
        said = 0
        reasoned = 0
        for choice in self.candidates:
            reasoned += len((choice.reasoning or "").split())
            said += len((choice.text or "").split()) + len((choice.refusal or "").split())
            said += sum(len(call.arguments_text.split()) + 1 for call in choice.tool_calls)
        return Usage(request.words, said + reasoned, reasoning=reasoned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw(Answer):
    """Bytes as they are; with the content type of server-sent events they go out event by event."""

    content: bytes
    content_type: str = "application/json"
    status: int = 200
    cuts: Sequence[int] | None = None
    """Send the body as a stream that is cut at these bytes, whatever it holds."""


def reply(text: str | None = None, **options: Any) -> Reply:
    """A model's reply: `reply("Hello")`, `reply(tool_calls=[tool_call("get_weather", city="Oslo")])`.

    Options are the fields of `Reply` and `Answer`.
    """
    return Reply(text=text, **options)


def tool_call(
    name: str,
    /,
    arguments: Mapping[str, Any] | str | None = None,
    *,
    id: str | None = None,
    namespace: str | None = None,
    **named: Any,
) -> ToolCall:
    """A tool call with its arguments as a mapping, as a raw string, or by name."""
    return ToolCall(name, named if arguments is None else arguments, id, namespace)


def error(status: int, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any) -> Raw:
    """A failed answer.

    `body` is JSON, bytes, a string (HTML when it begins with `<`), or None for OpenAI's error object.
    """
    if body is None:
        body = error_body(f"scripted failure {status}", code=str(status))
    if isinstance(body, str):
        kind = "text/html" if body.lstrip().startswith("<") else "text/plain"
        content, content_type = body.encode(), f"{kind}; charset=utf-8"
    else:
        content, content_type = (
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            "application/json",
        )
    return Raw(content=content, content_type=content_type, status=status, headers=headers or {}, **options)


def raw(content: bytes, content_type: str = "application/json", status: int = 200, **options: Any) -> Raw:
    """Bytes as they are, for instance a recorded body."""
    return Raw(content=content, content_type=content_type, status=status, **options)


def error_body(message: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def pieces(text: str, words: int) -> list[str]:
    """`text` cut after every `words` words; joined they are the text again."""
    found: list[str] = re.findall(r"\s*\S+|\s+$", text)
    return ["".join(found[at : at + words]) for at in range(0, len(found), words)]


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event; `data` is JSON or a plain string such as `[DONE]`."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


CREATED = 1_700_000_000
"""Every answer's creation time (Unix seconds), fixed so that answers can be compared."""
