"""Model calls over a WebSocket: each message that asks a model is a call, which the messages that answer it end.

A connection of the library `websockets` is wrapped, beneath whatever queues, reconnects and handlers an SDK has.
Messages pass as they are; what is recorded of an answer is what a stream over HTTP would have brought.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import wrapt

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.requests import Body, object_in
from spanrelay.instrumentation.sessions import Leaving, SessionSpan, left_call
from spanrelay.instrumentation.targets import Target, outgoing_of
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.model import ModelCall
from spanrelay.pipeline.stream import AsyncTap, SyncTap
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing


class Speech(Protocol):
    """How an API speaks over a WebSocket."""

    def asked(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the request that a client's event makes of a model, as the API has it over HTTP; None of any other."""
        ...

    def event(self, event: Mapping[str, Any], wire: Mapping[str, Any], was: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a client's event with another request than it `was`."""
        ...

    def lane(self, event: Mapping[str, Any]) -> Any:
        """Return what tells the requests apart that are answered at the same time."""
        ...

    def answered(self, event: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> int | None:
        """Return which of the client's events of a lane, oldest first, a server's is of; None of none of them."""
        ...

    def joins(self, event: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Whether a server's event begins the answer to two of a client's at once."""
        ...

    def told(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a server's event as a stream over HTTP would bring it."""
        ...

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Whether a server's event is the last of an answer."""
        ...

    def target(self, model: str | None) -> Target:
        """Return where a request of a model goes."""
        ...

    listens: bool = False
    """Whether it is told of all that passes, and a server may begin an answer that nobody asked for."""

    def left(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return, as a request, what a client's event leaves with the server for later ones; None where nothing."""
        return None

    def sent(self, event: Mapping[str, Any]) -> None:
        """Take note of a client's event that asks nothing and is about to be sent."""

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take note of a server's event."""

    def begun(
        self, event: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return what stands for a client's event, and the request, where a server's begins what nobody asked for."""
        return None

    def refused(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the client's event that stops an answer which nobody asked for; no event of it is handed on."""
        return {}

    def is_withheld(self, event: Mapping[str, Any]) -> bool:
        """Whether a server's event is of an answer that was refused."""
        return False


class _Feed:
    """Hands an answer's messages to its tap as they come, one at a time."""

    def __init__(self) -> None:
        self._frame: bytes | None = None
        self._over = False

    def put(self, frame: bytes) -> None:
        """Let the next step yield a message."""
        self._frame = frame

    def end(self) -> None:
        """Let the next step be the last."""
        self._over = True

    def _next(self, over: type[Exception]) -> bytes:
        frame, self._frame = self._frame, None
        if frame is not None:
            return frame
        if self._over:
            raise over
        raise RuntimeError("a message of an answer was asked for before it came")

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> bytes:
        return self._next(StopIteration)

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        return self._next(StopAsyncIteration)


class _Asking:
    """A call that is being answered: its tap, what feeds it, and what came of the answer before the call was sent.

    Whoever listens may hear the answer first: that waits until policy has had its say after the sending.
    """

    def __init__(self, tap: Any, feed: _Feed, event: Mapping[str, Any]) -> None:
        self.tap, self._feed, self.event = tap, feed, event
        self._held: list[tuple[bytes, bool]] | None = []
        self._stepping = threading.RLock()
        self._astepping = asyncio.Lock()

    def hear(self, frame: bytes, *, last: bool) -> None:
        """Take a message of the answer."""
        with self._stepping:
            if self._held is not None:
                self._held.append((frame, last))
                return
            self._feed.put(frame)
            next(self.tap, None)
            if last:
                self._feed.end()
                next(self.tap, None)

    def sent(self) -> None:
        """Take what has been heard already, and from now on what comes."""
        with self._stepping:
            held, self._held = self._held or [], None
            for frame, last in held:
                self.hear(frame, last=last)

    @property
    def is_busy(self) -> bool:
        """Whether something else of the answer is being taken."""
        return self._astepping.locked()

    async def ahear(self, frame: bytes, *, last: bool) -> None:
        """Take a message of the answer."""
        async with self._astepping:
            if self._held is not None:
                self._held.append((frame, last))
                return
            await self._astep(frame, last=last)

    async def asent(self) -> None:
        """Take what has been heard already, and from now on what comes."""
        async with self._astepping:
            held, self._held = self._held or [], None
            for frame, last in held:
                await self._astep(frame, last=last)

    async def _astep(self, frame: bytes, *, last: bool) -> None:
        self._feed.put(frame)
        await anext(self.tap, None)
        if last:
            self._feed.end()
            await anext(self.tap, None)


class _Talk:
    """What is going on over one connection."""

    def __init__(self, speech: Speech, tracing: Tracing, span: SessionSpan | None = None) -> None:
        self.speech, self.tracing, self.span = speech, tracing, span
        self._lanes: dict[Any, deque[_Asking]] = {}

    def asked(self, message: Any, send: Callable[..., Any]) -> tuple[ModelCall, _Boundary | Leaving] | None:
        """Return the call that a message begins, and its way; None where nothing of it is to be judged."""
        event = self._event_in(message)
        if isinstance(event, Body):
            call, boundary = self._call({}, {}, message, send)
            call.unreadable = event.unreadable
            return call, boundary
        wire = self.speech.asked(event)
        return self._left(event, message, send) if wire is None else self._call(wire, event, message, send)

    def _call(
        self, wire: Mapping[str, Any], event: Mapping[str, Any], message: Any, send: Callable[..., Any]
    ) -> tuple[ModelCall, _Boundary]:
        target, boundary = self._target(wire), _Boundary(self, event, message, send)
        opened = target.open(self.tracing) if self.span is None else self.span.open(target, self.tracing)
        return target.call(wire, boundary, self.tracing, opened), boundary

    def _target(self, wire: Mapping[str, Any]) -> Target:
        model = wire.get("model")
        return self.speech.target(model if isinstance(model, str) else None)

    def _left(
        self, event: Mapping[str, Any], message: Any, send: Callable[..., Any]
    ) -> tuple[ModelCall, Leaving] | None:
        """Return the call that stands for what a message leaves with the server, where policy holds."""
        wire = self.speech.left(event) if is_covered(current_scope()) else None
        if wire is None:
            self.speech.sent(event)
            return None

        def changed(message: Any, wire: Mapping[str, Any], was: Mapping[str, Any]) -> Any:
            left = event if wire is was else self.speech.event(event, wire, was)
            self.speech.sent(left)
            return message if left is event else _like(message, left)

        boundary = Leaving(message, send, changed)
        return left_call(self._target(wire), wire, boundary, self.tracing), boundary

    def begun(self, event: Any, send: Callable[..., Any]) -> tuple[ModelCall, _Boundary] | None:
        """Return the call of an answer that a server begins unasked, and its way, which sends nothing."""
        begun = self.speech.begun(event, [each.event for each in self._lanes.get(self.speech.lane(event), ())])
        return None if begun is None else self._call(begun[1], begun[0], None, send)

    def read(self, message: Any) -> Mapping[str, Any]:
        """Return the event in a server's message, where somebody waits for it; else an empty one."""
        event: Any = None
        if self._lanes or self.speech.listens:
            with guarded("reading a message"):
                event = _json.loads(message)
        return cast("dict[str, Any]", event) if isinstance(event, dict) else {}

    def _event_in(self, message: Any) -> Mapping[str, Any] | Body:
        """Return the event in a message; where policy holds, what could be read in two ways is none."""
        if is_covered(current_scope()):
            if isinstance(message, (str, bytes, bytearray)):
                return object_in(message)
            return Body({}, f"a message of type {type(message).__name__!r} cannot be read before it is sent; send text")
        value: Any = None
        if isinstance(message, (str, bytes)):
            with guarded("reading a message"):
                is_object = message.startswith("{") if isinstance(message, str) else message.startswith(b"{")
                value = _json.loads(message) if is_object else None
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def begin(self, event: Mapping[str, Any], asking: _Asking) -> None:
        """Expect an answer."""
        self._lanes.setdefault(self.speech.lane(event), deque()).append(asking)

    def forget(self, event: Mapping[str, Any], asking: _Asking) -> None:
        """Expect no answer any more."""
        lane = self._lanes.get(self.speech.lane(event))
        if lane is not None and asking in lane:
            lane.remove(asking)

    def heard(self, event: Mapping[str, Any], message: Any) -> list[tuple[_Asking, bytes, bool]]:
        """Return whose answers a message belongs to, each with its frame, and whether it is the last of that."""
        lane = self._lanes.get(self.speech.lane(event)) if event else None
        at = self.speech.answered(event, [asking.event for asking in lane]) if lane else None
        if not lane or at is None:
            return []
        ended: list[_Asking] = []
        while len(lane) > at + 1 and self.speech.joins(event, lane[at].event, lane[at + 1].event):
            ended.append(lane[at])
            del lane[at]
        asking, last, told = lane[at], self.speech.is_last(event), self.speech.told(event)
        if last:
            del lane[at]
            if not lane:
                del self._lanes[self.speech.lane(event)]
        data = _json.dumps(told) if told is not event else message.encode() if isinstance(message, str) else message
        frame = b"data: " + b"\ndata: ".join(data.splitlines()) + b"\n\n"
        return [*((each, frame, True) for each in ended), (asking, frame, last)]

    def left(self) -> list[_Asking]:
        """Return what will not be answered any more."""
        lanes, self._lanes = self._lanes, {}
        return [asking for lane in lanes.values() for asking in lane]

    def end(self, error: BaseException | None = None) -> None:
        """Take the connection for closed."""
        if self.span is not None:
            self.span.end(error)


class _Boundary:
    """The way of one call through a connection, whose answer comes when the application listens."""

    pushes = True

    def __init__(self, talk: _Talk, event: Mapping[str, Any], message: Any, send: Callable[..., Any]) -> None:
        self._talk, self.event, self._message, self._send = talk, event, message, send
        self.tap: type[Any] = SyncTap
        self._askings: list[_Asking] = []
        """One, or several where policy sends again."""

    def send(self, call: ModelCall) -> Any:
        """Send what policy left of the request, the client's own message where it changed nothing; sync or async."""
        wire, message = outgoing_of(call), self._message
        call.sent = _json.dumps(wire)
        event = self.event
        if wire is not call.original:
            event = self._talk.speech.event(event, wire, call.original)
            message = _like(message, event)
        asking = self._begin(call, event)  # before it is sent: whoever listens may hear the answer first
        if self.tap is not SyncTap:
            return self._asent(asking, message)
        try:
            self._send(message)
        except BaseException:
            self._take_back(asking)
            raise
        return None

    async def _asent(self, asking: _Asking, message: Any) -> None:
        try:
            await self._send(message)
        except BaseException:
            self._take_back(asking)
            raise

    def _take_back(self, asking: _Asking) -> None:
        """Expect no answer to what was not sent, whose call fails by that."""
        self._talk.forget(self.event, asking)
        asking.tap.forget()

    def _begin(self, call: ModelCall, event: Mapping[str, Any]) -> _Asking:
        feed = _Feed()
        tap = call.tap = self.tap(call, feed, _nothing if self.tap is SyncTap else _anothing, form="frames")
        asking = _Asking(tap, feed, event)  # which keeps the tap; a call does not
        self._askings.append(asking)
        self._talk.begin(self.event, asking)
        return asking

    def sent(self, *, failed: bool) -> list[_Asking]:
        """Return what may be answered now; of a call that has `failed` since, nothing is recorded any more."""
        if failed:
            for asking in self._askings:
                asking.tap.forget()
        return self._askings

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """Refuse: nobody can answer in the place of a connection."""
        raise MiddlewareError(
            "policy cannot answer over a WebSocket in the provider's place; let it pass, or refuse it"
        )


def _like(message: Any, event: Mapping[str, Any]) -> Any:
    """Return an event as a message of the type of another."""
    text = _json.dumps(event)
    return text if isinstance(message, bytes) else text.decode()


def _nothing(*_: Any) -> None:
    return None


async def _anothing(*_: Any) -> None:
    return None


async def _hear(message: Any, heard: list[tuple[_Asking, bytes, bool]]) -> Any:
    """Return a message when all whose answers it belongs to have taken it."""
    for asking, frame, last in heard:
        await asking.ahear(frame, last=last)
    return message


class Wire(wrapt.ObjectProxy):  # type: ignore[misc]  # wrapt has no types for its proxies
    """A sync connection, whose messages are looked at as they pass."""

    def __init__(self, connection: Any, speech: Speech, tracing: Tracing, span: SessionSpan | None = None) -> None:
        super().__init__(connection)
        self._self_talk = _Talk(speech, tracing, span)

    def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a message, as a call where it asks a model."""

        def send(message: Any) -> None:
            self.__wrapped__.send(message, *args, **kwargs)

        asked = self._self_talk.asked(message, send)
        if asked is None:
            return send(message)
        call, boundary = asked
        failed = True
        try:
            done = run(call)
            failed = False
            return done
        finally:
            for asking in boundary.sent(failed=failed):
                asking.sent()

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Receive a message, and end the call whose answer's last it is."""
        talk = self._self_talk
        while True:
            try:
                message = self.__wrapped__.recv(*args, **kwargs)
            except (TimeoutError, RuntimeError):
                raise  # nothing has come yet, or somebody else receives: the connection goes on
            except Exception as error:
                for asking in talk.left():
                    asking.tap.read_failed(error)
                talk.end(error)
                raise
            event = talk.read(message)
            talk.speech.heard(event)
            if not talk.speech.is_withheld(event):
                break
        begun = talk.begun(event, _nothing)
        if begun is not None:
            self._begin(*begun)
        for asking, frame, last in talk.heard(event, message):
            asking.hear(frame, last=last)
        return message

    def _begin(self, call: ModelCall, boundary: _Boundary) -> None:
        """Have policy judge an answer that the server has begun unasked, and stop it where it is refused."""
        try:
            run(call)
        except BaseException:
            with guarded("stopping an answer that was refused"):
                self.__wrapped__.send(_like("", self._self_talk.speech.refused(boundary.event)))
            raise
        for asking in boundary.sent(failed=False):
            asking.sent()

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close the connection; what was being answered ends here."""
        try:
            return self.__wrapped__.close(*args, **kwargs)
        finally:
            for asking in self._self_talk.left():
                asking.tap.close()
            self._self_talk.end()


class AsyncWire(wrapt.ObjectProxy):  # type: ignore[misc]  # as above
    """An async connection, whose messages are looked at as they pass."""

    def __init__(self, connection: Any, speech: Speech, tracing: Tracing, span: SessionSpan | None = None) -> None:
        super().__init__(connection)
        self._self_talk = _Talk(speech, tracing, span)
        self._self_hearing: asyncio.Future[Any] | None = None
        """Hands on a message that has come, while policy waits for something."""

    async def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a message, as a call where it asks a model."""

        async def send(message: Any) -> None:
            await self.__wrapped__.send(message, *args, **kwargs)

        asked = self._self_talk.asked(message, send)
        if asked is None:
            return await send(message)
        call, boundary = asked
        boundary.tap = AsyncTap
        failed = True
        try:
            done = await arun(call)
            failed = False
            return done
        finally:
            for asking in boundary.sent(failed=failed):
                await asking.asent()

    async def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Receive a message, and end the call whose answer's last it is.

        Policy may wait then; who is cancelled meanwhile is given the message when it asks again, as by the library.
        """
        if self._self_hearing is None:
            message, event = await self._receive(*args, **kwargs)
            begun = self._self_talk.begun(event, _anothing)
            if begun is not None:
                self._self_hearing = asyncio.ensure_future(self._begin(message, event, *begun))
            else:
                heard = self._self_talk.heard(event, message)
                if not any(last or asking.is_busy for asking, _, last in heard):
                    return await _hear(message, heard)
                self._self_hearing = asyncio.ensure_future(_hear(message, heard))
        hearing = self._self_hearing
        try:
            message = await asyncio.shield(hearing)
        except BaseException as error:
            if hearing.cancelled() or not isinstance(error, asyncio.CancelledError):
                self._self_hearing = None
            raise
        self._self_hearing = None
        return message

    async def _receive(self, *args: Any, **kwargs: Any) -> tuple[Any, Mapping[str, Any]]:
        """Return the next message that is handed on, and the event in it."""
        talk = self._self_talk
        while True:
            try:
                message = await self.__wrapped__.recv(*args, **kwargs)
            except (TimeoutError, asyncio.TimeoutError, RuntimeError):
                raise
            except Exception as error:
                for asking in talk.left():
                    await asking.tap.read_failed(error)
                talk.end(error)
                raise
            event = talk.read(message)
            talk.speech.heard(event)
            if not talk.speech.is_withheld(event):
                return message, event

    async def _begin(self, message: Any, event: Mapping[str, Any], call: ModelCall, boundary: _Boundary) -> Any:
        """Do as a sync connection does, and return the message when the answer's call has taken it."""
        boundary.tap = AsyncTap
        try:
            await arun(call)
        except BaseException:
            with guarded("stopping an answer that was refused"):
                await self.__wrapped__.send(_like("", self._self_talk.speech.refused(boundary.event)))
            raise
        for asking in boundary.sent(failed=False):
            await asking.asent()
        return await _hear(message, self._self_talk.heard(event, message))

    async def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close the connection; what was being answered ends here."""
        try:
            return await self.__wrapped__.close(*args, **kwargs)
        finally:
            for asking in self._self_talk.left():
                await asking.tap.aclose()
            self._self_talk.end()
