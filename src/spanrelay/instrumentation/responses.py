"""What comes back over HTTP: a response that is kept, or a stream that is tapped while the SDK reads it.

For SDKs that stand on httpx2 or httpx; neither is imported here.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from types import FrameType, ModuleType
from typing import Any, cast

from spanrelay.codecs import aws_events, sse
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, Form, SyncTap

EVENTS = "text/event-stream"
_OF_THE_BYTES = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that say how a body was sent."""


def received(call: ModelCall, response: Any, sdk: str, *, streams: bool, leaves: bool = False) -> Any:
    """Keep the bytes of a response, or tap its stream, and return what the SDK is to get of it.

    Args:
        call: What the response answers.
        response: Read, or still to be read.
        sdk: The package of the SDK, or a module in it.
        streams: Whether it reads events, whatever the provider calls them.
        leaves: Whether it leaves a stream at the event that says that it is over, and does not read to the end.
    """
    if response.is_stream_consumed:
        if streams and call.rewriting is not None:
            response = _rewritten(call, response)
        call.body = response.content
    else:
        form: Form = "frames" if streams or _is_events(response) else "body"
        legible = call.rewriting is not None or (leaves and is_covered(call.scope))
        response.stream = call.tap = _tapped(call, response, form, sdk, legible=legible)
    return response


def _rewritten(call: ModelCall, response: Any) -> Any:
    """Return a response with what stream intercepts leave of a stream that was read before the SDK gets it.

    The SDK reads all of it where the body alone asks for a stream, as `parse(stream=True)` does, and so may a hook.
    """
    rewriter = cast("Callable[..., Any]", call.rewriting)(call, frames=True)
    data = b"".join([*rewriter.feed(response.content), *rewriter.finish()])
    if data == response.content:
        return response
    made = http_module(type(response)).Response(
        response.status_code,
        headers=[(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_BYTES],
        content=data,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
        default_encoding=response.default_encoding,
    )
    with suppress(RuntimeError):  # of what a transport of the application's has made, nobody took the time
        made.elapsed = response.elapsed
    return made


def is_readable(response: Any) -> bool:
    """Whether a response says of itself that it is JSON, or a stream of events."""
    return "json" in response.headers.get("content-type", "") or _is_events(response)


@lru_cache(maxsize=16)
def is_of_http(kind: type) -> bool:
    """Whether a class is the HTTP package's of responses, or made of it: that of a test's stand-in is not."""
    return any(each.__name__ == "Response" and each.__module__.startswith("httpx") for each in kind.__mro__)


def _is_events(response: Any) -> bool:
    return response.headers.get("content-type", "").startswith(EVENTS)


def http_module(kind: type) -> ModuleType:
    """Return the HTTP package (httpx2 or httpx) that a request class comes from."""
    return sys.modules[kind.__module__.partition(".")[0]]


def _tapped(call: ModelCall, response: Any, form: Form, sdk: str, *, legible: bool) -> Any:
    module = http_module(type(response))
    stream = response.stream
    encoding = response.headers.get("content-encoding")
    decode = _decoder(module, encoding) if encoding else None
    if response.headers.get("content-type", "").startswith(aws_events.CONTENT_TYPE):
        if call.rewriting is not None:
            raise MiddlewareError(
                "stream intercepts see no text in a stream that AWS frames, so the call is refused; ask without a "
                "stream, or through another client"
            )
        form, decode = "frames", _unframed
    if encoding and form == "frames" and legible:
        # Stream intercepts work on what is readable, and policy that waits for the end has to see it come; the SDK is
        # then given it plain.
        stream, decode = _Plain(module, encoding, stream), None
        del response.headers["content-encoding"]
    tap: Any
    if isinstance(response.stream, module.SyncByteStream):
        tap = _sync_tap(module)(call, iter(stream), stream.close, form=form, decode=decode)
    else:
        tap = _async_tap(module)(call, aiter(stream), stream.aclose, form=form, decode=decode)
    tap.stands_for = response.stream
    tap.stream_observer = getattr(response.stream, "stream_observer", None)
    tap.sdk = sdk.partition(".")[0]
    return tap


class _StandIn:
    """Has what it stands for has, as the time that the HTTP package takes of its streams; knows who reads it."""

    stands_for: Any = None
    stream_observer: Any = None
    """What Anthropic's SDK asks a stream for at each event: it is here, since to find nothing takes a microsecond."""
    sdk = ""
    """The package of the SDK."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stands_for, name)

    def raised_by_reader(self, error: Exception) -> bool:
        """Whether `error` passed code of the SDK's that was reading this stream.

        It closes the stream itself while the error passes, or it has ended and holds the stream's response. Asking a
        frame for its local names would copy them, and keep what they hold for as long as the frame runs.
        """
        above, trace = _callers(), error.__traceback__
        while trace is not None:
            frame, trace = trace.tb_frame, trace.tb_next
            of_sdk = frame.f_globals.get("__name__", "").partition(".")[0] == self.sdk
            if of_sdk and (frame in above or any(map(self._is_read_by, gc.get_referents(frame)))):
                return True
        return False

    def _is_read_by(self, known: Any) -> bool:
        held = (known, getattr(known, "response", None), getattr(known, "_response", None))
        return any(getattr(response, "stream", None) is self for response in held)


def _callers() -> set[FrameType]:
    """Return the frames that are at work now, but for the caller's: it keeps these, and would keep itself."""
    found: set[FrameType] = set()
    frame: FrameType | None = sys._getframe(2)  # the stack has no other way in
    while frame is not None:
        found.add(frame)
        frame = frame.f_back
    return found


class _Plain:
    """A stream of bytes, its content encoding undone."""

    def __init__(self, module: ModuleType, encoding: str, stream: Any) -> None:
        self._response = module.Response(200, headers={"content-encoding": encoding}, stream=stream)
        self.close, self.aclose = self._response.close, self._response.aclose

    def __iter__(self) -> Any:
        return self._response.iter_bytes()

    def __aiter__(self) -> Any:
        return self._response.aiter_bytes()


def _unframed(data: bytes) -> bytes:
    """Return the events of a stream that AWS frames as server-sent ones."""
    return b"".join(map(sse.frame, aws_events.events(data)))


def _decoder(module: ModuleType, encoding: str) -> Callable[[bytes], bytes]:
    def decode(data: bytes) -> bytes:
        return module.Response(200, headers={"content-encoding": encoding}, content=data).content

    return decode


@lru_cache(maxsize=4)
def _sync_tap(module: ModuleType) -> type[SyncTap]:
    # The HTTP package asks `isinstance(stream, SyncByteStream)`, and the core must not import it.
    return type("ResponseTap", (_StandIn, SyncTap, module.SyncByteStream), {})


@lru_cache(maxsize=4)
def _async_tap(module: ModuleType) -> type[AsyncTap]:
    return type("AsyncResponseTap", (_StandIn, AsyncTap, module.AsyncByteStream), {})
