"""What boundaries do alike, whatever SDK they stand in: where a request goes, and how a call of it is made and sent.

A target is made once for each model of a server: the span's start in it is what each call would have to make anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from spanrelay import _json
from spanrelay.codecs import Codec, aws_events, plain, sse
from spanrelay.codecs.naming import models_within
from spanrelay.codecs.offers import offers_of
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.responses import EVENTS
from spanrelay.pipeline.call import Opened
from spanrelay.pipeline.driver import arun, arun_unseen, is_unseen, run, run_unseen
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.propagation import trace_headers
from spanrelay.records import Kind, ModelRequest, SpanRecord
from spanrelay.semconv.names import span_name
from spanrelay.tracing import Start, Tracing, recording

_MOST = 1000
"""Targets that are kept: names of models come from outside."""


@dataclass(frozen=True, slots=True)
class Route:
    """One inference route: the wire API it speaks. `ends_with_done` says that its streams end with `[DONE]`.

    `answers` says that a call there may be the one that a framework's call of a model stands for. `filling` are fields
    that the SDK cannot do without in an answer, and that a record has none for: policy's answers are given them.
    `dialect`, of who answers, of the host and the model, returns the codec as they have it there.
    """

    codec: Codec
    kind: Kind = "llm"
    ends_with_done: bool = True
    answers: bool = True
    filling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dialect: Callable[[str, str, str | None], Codec] | None = None


PLAIN = Route(plain, answers=False)
"""Any other route, where the request names a model or offers one tools."""


def asks_within(wire: Mapping[str, Any]) -> bool:
    """Whether a request that names no model by a text names one by what is none, or deeper, or offers tools to one."""
    try:
        return wire.get("model") is not None or any(True for _ in models_within(wire)) or bool(offers_of(plain, wire))
    except Exception:  # objects of the application's, read by code of their own: policy has the last word
        return True


class Address(NamedTuple):
    """What a target asks of a URL, for SDKs whose URLs are text."""

    host: str | None
    port: int | None


class Target:
    """Where a request goes, and what its span starts with: made once for each model of a client's server.

    `provider` is the `gen_ai.provider.name`; `url` has a host and a port; `place` is what else its path and query say.
    """

    __slots__ = ("address", "place", "port", "provider", "route", "stands_for", "start", "url")

    def __init__(
        self, url: Any, route: Route, provider: str, model: str | None, *, stream: bool, place: Any = None
    ) -> None:
        self.url = url
        self.place = place
        self.route = route
        self.stands_for: Kind | None = route.kind if route.answers else None
        """The kind of call of a framework that it may be the one for."""
        self.provider = provider
        self.address, self.port = url.host or None, url.port
        operation = route.codec.operation
        record = SpanRecord(0, 0, name=span_name(route.kind, operation, model), kind=route.kind, operation=operation)
        record.provider, record.request = provider, ModelRequest(model, stream=stream)
        record.server_address, record.server_port = self.address, self.port
        self.start = Start(record)

    def open(self, tracing: Tracing) -> Opened:
        """Open the span of a call, or take the framework's that it is the one for."""
        return open_for(tracing, self.start, self.stands_for)

    def call(
        self,
        wire: Mapping[str, Any],
        boundary: Any,
        tracing: Tracing,
        opened: Opened,
        kind: Callable[..., Any] = ModelCall,
    ) -> Any:
        """Return the call that says `wire`, which is a `kind`."""
        route = self.route
        call: ModelCall = kind(
            route.codec, wire, boundary, tracing, provider=self.provider, kind=route.kind, opened=opened
        )
        call.record.server_address, call.record.server_port = self.address, self.port
        return call


class Targets(dict[Any, Target]):
    """Those that are known, by whatever tells them apart."""

    def known(self, key: tuple[Any, ...], make: Callable[[], Target]) -> Target:
        """Return the target of `key`, made on first use; a span starts otherwise in another dialect."""
        dialect = (*key, recording.dialect)
        target = self.get(dialect)
        if target is None:
            if len(self) > _MOST:
                self.clear()
            target = self[dialect] = make()
        return target


def ask(opened: Opened, made: Callable[[], ModelCall], wrapped: Any, args: Any, kwargs: Any) -> Any:
    """Run a call, which is `made` where anybody sees it."""
    if is_unseen(opened) and not recording.propagate:
        return run_unseen(opened, wrapped, args, kwargs)
    return run(made())


async def aask(opened: Opened, made: Callable[[], ModelCall], wrapped: Any, args: Any, kwargs: Any) -> Any:
    """Run a call as `ask` does, and await it."""
    if is_unseen(opened) and not recording.propagate:
        return await arun_unseen(opened, wrapped, args, kwargs)
    return await arun(made())


def written(
    call: ModelCall, body: Mapping[str, Any], *, ends_with_done: bool = True, as_aws: bool = False
) -> tuple[bytes, str]:
    """Return an answer as a server sends it: its bytes, those of a stream where one was asked for, and their type.

    Args:
        call: What is answered.
        body: The answer as JSON.
        ends_with_done: Whether a stream ends with `[DONE]`.
        as_aws: Whether a stream is framed as AWS frames it.
    """
    if not call.streams:
        return _json.dumps(body), "application/json"
    frame, kind = (aws_events.chunk, aws_events.CONTENT_TYPE) if as_aws else (sse.frame, EVENTS)
    frames = map(frame, call.stream_events(body))
    return b"".join((*frames, sse.DONE if ends_with_done else b"")), kind


def outgoing_of(call: ModelCall) -> Mapping[str, Any]:
    """Return what policy left of a request, which is the application's own object where it changed nothing.

    Raises:
        MiddlewareError: it turned a stream on or off.
    """
    wire = call.outgoing()
    if wire is not call.original and bool(wire.get("stream")) != call.streams:
        raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
    return wire


def carried_by(call: ModelCall) -> str | None:
    """Return the `traceparent` that tells a server of a call's span, where servers are to be told."""
    return trace_headers(call.context).get("traceparent") if recording.propagate else None
