"""One exchange that asks a model, as a call of the pipeline: what is sent, what comes back, what is recorded of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.errors import MiddlewareError
from spanrelay.gateway.bodies import Unknown, decoder
from spanrelay.gateway.forwarding import Client, Headers, chunks_of, request_headers, response_headers
from spanrelay.gateway.refusals import frame_of, message_in
from spanrelay.gateway.routes import GEMINI, Asked
from spanrelay.gateway.upstreams import Upstream
from spanrelay.instrumentation.responses import EVENTS
from spanrelay.instrumentation.targets import carried_by, outgoing_of, written
from spanrelay.pipeline.identity import Identity, identity_of
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, Form
from spanrelay.propagation import identified
from spanrelay.records import ErrorInfo

_W3C, _BAGGAGE = TraceContextTextMapPropagator(), W3CBaggagePropagator()
_SESSION = (b"session.id", b"x-session-id", b"session-id", b"x-claude-code-session-id")
"""Headers that name the session: the convention's word, and what clients send by themselves."""
_USER = (b"user.id",)
_TOLD_OF_ERRORS = 1 << 16
"""Bytes of an error's body that are read for its message."""


class Sent(NamedTuple):
    """A request as the client has sent it: `data` is its body as it came, `read` the same without encodings."""

    method: str
    upstream: Upstream
    path: str
    query: bytes
    headers: Headers
    data: bytes = b""
    read: bytes = b""
    is_form: bool = False


class Answer:
    """What the client gets: a status, headers, and the body as it comes, or all of it.

    Attributes:
        refused: Makes the event that ends a stream of events which policy refuses in its middle.
    """

    __slots__ = ("body", "chunks", "close", "frames", "headers", "refused", "status")

    def __init__(
        self,
        status: int,
        headers: Headers,
        *,
        body: bytes = b"",
        chunks: Any = None,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.chunks: Any = chunks
        self.close = close
        self.refused: Callable[[str], bytes] | None = None


def told(status: int, content: bytes, kind: str = "application/json", *more: tuple[bytes, bytes]) -> Answer:
    """Return an answer of the gateway's own."""
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(content)), *more]
    return Answer(status, headers, body=content)


class Declined(Exception):
    """The provider answers with an error, which the client is given as it came.

    Policy may catch it where it sent the call, as it may catch what an SDK raises there, and send it again.

    Attributes:
        answer: What the provider answered.
        status_code: Its status.
        headers: Its headers.
    """

    def __init__(self, answer: Answer, message: str) -> None:
        super().__init__(message)
        self.answer = answer
        self.status_code = answer.status
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}


class ExchangeCall(ModelCall):
    """A model call of a program elsewhere."""

    __slots__ = ()

    def finish(self, end: int | None = None) -> None:
        """End the span; that a body came in pieces does not make a stream of it.

        A client that leaves when it has read the last event leaves nothing out, though the connection is still open.
        """
        if self.arrived is not None and self.arrived.form == "body":
            self.record.time_to_first_chunk = None
        elif self.record.incomplete == "cancelled" and self.tap is not None and self.tap._is_whole():
            self.record.incomplete = self.record.error = None
        super().finish(end)

    def fail(self, error: BaseException) -> None:
        """End the span of a call that was declined, or that failed."""
        if isinstance(error, Declined):
            self.record.error = ErrorInfo(str(error.status_code), str(error), None, error.status_code)
            self.finish()
        else:
            super().fail(error)


def place_of(headers: Mapping[bytes, bytes], around: Context) -> Context:
    """Return the context of a request: below the span, in the session and of the user that its headers name."""
    carrier = {
        name: headers[name.encode()].decode("latin-1")
        for name in ("traceparent", "tracestate", "baggage")
        if name.encode() in headers
    }
    context = _W3C.extract(carrier, around) if "traceparent" in carrier else around
    told = _BAGGAGE.extract(carrier, Context()) if "baggage" in carrier else None
    session = _first(_SESSION, headers, told)
    user = _first(_USER, headers, told)
    return context if session is None and user is None else identified(context, session_id=session, user_id=user)


def _first(names: tuple[bytes, ...], headers: Mapping[bytes, bytes], told: Context | None) -> str | None:
    for name in names:
        if name in headers:
            return headers[name].decode("utf-8", "replace") or None
    value = None if told is None else baggage.get_baggage(names[0].decode(), told)
    return value if isinstance(value, str) else None


class Exchange:
    """The way of one call through the gateway: a boundary of the pipeline."""

    __slots__ = ("_asked", "_client", "_sent")

    def __init__(self, client: Client, sent: Sent, asked: Asked) -> None:
        self._client = client
        self._sent = sent
        self._asked = asked

    async def send(self, call: ModelCall) -> Answer:
        """Send what policy left of the request: the client's own bytes where it changed nothing.

        Raises:
            Declined: the provider answers with an error.
            Unreachable: it does not answer.
        """
        sent, wire = self._sent, outgoing_of(call)
        path, data, remade = sent.path, sent.data, wire is not call.original
        if remade:
            if sent.is_form:
                raise MiddlewareError("policy may refuse a request that is a form, and not change it: it is refused")
            path, body = self._asked.api.outgoing(self._asked, path, wire)
            data = _json.dumps(body)
        headers = request_headers(sent.headers, remade=remade)
        if carried := carried_by(call):
            headers = [each for each in headers if each[0] != "traceparent"]
            headers.append(("traceparent", carried))
        call.sent = data if remade else b"" if sent.is_form else sent.read
        response = await self._client.send(sent.method, sent.upstream, path, sent.query, headers, data)
        call.http_status = response.status
        if response.status >= 400:
            raise await _declined(response)
        return self._received(call, response)

    def identity(self) -> Identity:
        """Return who asks where; some write their key into the query."""
        sent = self._sent
        query = sent.query.decode("latin-1")
        headers = dict(request_headers(sent.headers, remade=False))
        place = (sent.method, sent.upstream.base, sent.path, query)
        return identity_of(place, headers, query if "key=" in query else None)

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Answer:
        """Return the answer that policy gives in the place of a provider's."""
        route = self._asked.route
        content, kind = written(call, {**route.filling, **body}, ends_with_done=route.ends_with_done)
        if self._is_array:
            content, kind = _json.dumps(list(call.stream_events(body))), "application/json"
        return told(200, content, kind)

    @property
    def _is_array(self) -> bool:
        """Whether a stream is an array of JSON: Gemini's, where it is not asked for as events."""
        return (
            self._asked.wire.get("stream") is True and self._asked.api is GEMINI and b"alt=sse" not in self._sent.query
        )

    def _received(self, call: ModelCall, response: aiohttp.ClientResponse) -> Answer:
        """Tap what comes back."""
        headers, kind = response_headers(response), response.headers.get("content-type", "")
        answer = Answer(response.status, headers, chunks=chunks_of(response), close=closing(response))
        readable = "json" in kind or kind.startswith(EVENTS)
        if not (readable and call.observed):
            return answer  # sound, images, films: nobody reads them, and they are large
        form: Form = "frames" if call.streams or kind.startswith(EVENTS) else "body"
        encoding = response.headers.get("content-encoding", "").strip().casefold()
        covered, decode = is_covered(call.scope), None
        if encoding not in ("", "identity"):
            try:
                decode = decoder(encoding)
            except Unknown as error:
                if covered:
                    raise MiddlewareError(f"policy cannot read the answer, so it is refused: {error}") from error
                return answer
            if form == "frames" and covered:
                # Policy works on what is readable, and has to see the end of a stream come: the client gets it plain.
                answer.chunks, decode = _Plain(answer.chunks, decode), None
                _drop(headers, b"content-encoding", b"content-length")
            else:
                decode = _Whole(encoding)
        if form == "frames" and call.rewriting is not None:
            if self._is_array:
                raise MiddlewareError("stream intercepts work on a stream of events: ask Gemini with `alt=sse`")
            _drop(headers, b"content-length")
        if self._is_array:
            decode = _Array(decode)

        tap = AsyncTap(call, answer.chunks, closing(response), form=form, decode=decode)
        answer.chunks = call.tap = tap
        answer.close = tap.aclose
        if form == "frames":
            answer.refused = lambda message: frame_of(self._asked.api, message)
        return answer


def closing(response: aiohttp.ClientResponse) -> Callable[[], Awaitable[None]]:
    """Return what gives up an answer that is not read on; after its end it does nothing."""

    async def close() -> None:
        response.close()

    return close


async def _declined(response: aiohttp.ClientResponse) -> Declined:
    """Read the beginning of an error, for its message; the client gets all of it."""
    headers, source = response_headers(response), chunks_of(response)
    begun, failure = b"", None
    try:
        async for chunk in source:
            begun += chunk
            if len(begun) > _TOLD_OF_ERRORS:
                break
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        failure = error  # its status has come, and breaks off for the client where it does here
    except BaseException:
        response.close()
        raise
    encoding, readable = response.headers.get("content-encoding", "").strip().casefold(), begun
    with suppress(Exception):  # it is passed on as it came
        readable = begun if encoding in ("", "identity") else decoder(encoding)(begun)
    told = message_in(readable) or f"the provider answered with status {response.status}"
    answer = Answer(response.status, headers, chunks=_resumed(begun, source, failure), close=closing(response))
    return Declined(answer, told)


async def _resumed(begun: bytes, rest: AsyncIterator[bytes], failure: Exception | None) -> AsyncIterator[bytes]:
    if begun:
        yield begun
    if failure is not None:
        raise failure
    async for chunk in rest:
        yield chunk


class _Plain:
    """A stream of bytes, its content encoding undone."""

    def __init__(self, source: Any, decode: Any) -> None:
        self._source, self._decode = source, decode

    def __aiter__(self) -> _Plain:
        return self

    async def __anext__(self) -> bytes:
        while True:
            chunk = self._decode(await self._source.__anext__())
            if chunk:
                return chunk


class _Whole:
    """Undoes the content encoding of all that has come of a body."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def __call__(self, data: bytes) -> bytes:
        return decoder(self._encoding)(data)


class _Array:
    """Reads an array of JSON as the events that it would have been, and leaves whatever else it is as it is."""

    def __init__(self, decode: Any) -> None:
        self._decode = decode

    def __call__(self, data: bytes) -> bytes:
        data = data if self._decode is None else self._decode(data)
        if not data.lstrip().startswith(b"["):
            return data
        try:
            return b"".join(map(sse.frame, _json.loads(data)))
        except ValueError:  # it was cut, between two of its items or within one
            return b"".join(b"data: " + item + b"\n\n" for item in data.strip()[1:].split(b"\n,\r\n"))


def _drop(headers: Headers, *names: bytes) -> None:
    headers[:] = [each for each in headers if each[0] not in names]
