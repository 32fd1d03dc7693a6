"""Stream intercepts: what stands between the source of a stream and its consumer, event by event.

Sans I/O. Text is let go only where no pattern can still straddle the cut, so what a consumer has seen is final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from opentelemetry.context import Context, attach, detach

from spanrelay import _json
from spanrelay.codecs import sse
from spanrelay.codecs.texts import Texts
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline import typed

if TYPE_CHECKING:
    from spanrelay.pipeline.call import Call
    from spanrelay.pipeline.middleware import Middleware

Event = Mapping[str, Any]


class Stage(Protocol):
    """One stream intercept at work on one stream."""

    def feed(self, event: Event) -> list[Event]:
        """Return what goes on of `event`, and what it sets free."""
        ...

    def finish(self) -> list[Event]:
        """Return what is still held when the stream has ended."""
        ...


def _asked(entry: Middleware, call: Call, given: Any) -> Any:
    """Return what a stream intercept makes of an event or a text."""
    try:
        return entry.function(call, given)
    except (StopIteration, StopAsyncIteration) as error:
        # As itself it would tell the consumer that the stream is whole.
        raise MiddlewareError(f"stream intercept {entry.name!r} raised {type(error).__name__}") from error


class EventStage:
    """Gives each event to the intercept, which returns it, another, or None to drop it."""

    def __init__(self, entry: Middleware, call: Call) -> None:
        self._entry = entry
        self._call = call

    def feed(self, event: Event) -> list[Event]:
        """Return the event that the intercept made of `event`, if any."""
        made = _asked(self._entry, self._call, _json.copied(event))
        if self._call.kind == "llm" and made is not None and not isinstance(made, Mapping):
            raise MiddlewareError(
                f"stream intercept {self._entry.name!r} must return an event or None, not {type(made).__name__!r}"
            )
        return [] if made is None else [made]

    def finish(self) -> list[Event]:
        """Nothing is held."""
        return []


class TextStage:
    """Gives the text of a stream to the intercept, and lets go only what no later text can change.

    A text is cut where the intercept makes the same of both pieces as of the whole, at least `hold_back`
    characters before its end.
    """

    def __init__(self, entry: Middleware, call: Call, hold_back: int, texts: Callable[[Any], Texts]) -> None:
        self._entry = entry
        self._call = call
        self._hold_back = hold_back
        self._texts = texts
        self._pending: dict[Any, str] = {}
        self._latest: dict[Any, Event] = {}

    def feed(self, event: Event) -> list[Event]:
        """Return `event` with the text that may go on, after the events for texts that it ends."""
        event = _json.copied(event)
        found = self._texts(event)
        continued = {slot.key for slot in found.deltas}
        out = [self._event_of(key) for key in list(self._pending) if found.closes(key) and key not in continued]
        for slot in found.deltas:
            text = self._pending.pop(slot.key, "") + slot.text
            done, kept = (text, "") if found.closes(slot.key) else self._cut(text)
            slot.set(self._made_of(done))
            self._pending[slot.key] = kept
            self._latest[slot.key] = event
        for slot in found.wholes:
            slot.set(self._made_of(slot.text))
        return [*(one for one in out if one is not None), event]

    def finish(self) -> list[Event]:
        """Return events for all text that is still held."""
        return [event for key in list(self._pending) if (event := self._event_of(key)) is not None]

    def _event_of(self, key: Any) -> Event | None:
        """Return an event like the last one of that text, with what is still held of it."""
        text = self._pending.pop(key, "")
        if not text:
            return None
        event = _json.copied(self._latest[key])
        for slot in self._texts(event).deltas:
            slot.set(self._made_of(text) if slot.key == key else "")
            text = "" if slot.key == key else text
        return event

    def _cut(self, text: str) -> tuple[str, str]:
        """Return what may go on and what is held."""
        whole = self._made_of(text)
        cut = len(text) - self._hold_back
        while cut > 0:
            if self._made_of(text[:cut]) + self._made_of(text[cut:]) == whole:
                return text[:cut], text[cut:]
            cut -= max(1, self._hold_back // 4)
        return "", text

    def _made_of(self, text: str) -> str:
        if not text:
            return ""
        made = _asked(self._entry, self._call, text)
        if not isinstance(made, str):
            raise MiddlewareError(
                f"stream intercept {self._entry.name!r} must return the text, not {type(made).__name__!r}"
            )
        return made


class Rewriter:
    """The stream intercepts of one stream, one behind the other.

    Args:
        call: Whose stream it is.
        entries: The intercepts, in order.
        context: What they run in.
        frames: Whether chunks are bytes of server-sent events rather than events.
    """

    def __init__(self, call: Call, entries: Iterable[Middleware], context: Context, *, frames: bool) -> None:
        codec: Any = getattr(call, "codec", None)
        self._stages = [_stage(entry, call, codec) for entry in entries]
        self._context = context
        self._splitter = sse.Splitter() if frames else None
        self._codec = codec
        self._body = bytearray()
        """The beginning of the answer, and all of it where it is one JSON body in place of a stream of events."""
        self._begun = not frames

    def feed(self, chunk: Any) -> list[Any]:
        """Return the chunks that `chunk` becomes.

        Raises:
            BaseException: what an intercept raised: the stream is refused.
        """
        token = attach(self._context)
        try:
            if self._splitter is None:
                return self._managed(chunk)
            if not self._begun:
                chunk = self._beginning(chunk)
            out = b"".join([self._frame(frame) for frame in self._splitter.feed(chunk)])
            return [out] if out else []
        finally:
            detach(token)

    def finish(self) -> list[Any]:
        """Return the chunks that are left when the source has ended."""
        token = attach(self._context)
        try:
            if self._splitter is None:
                return self._left()
            self._splitter.rest, rest = b"", self._splitter.rest
            out = self._ended(rest) if self._begun else self._body_that_may_pass()
            return [out] if out else []
        finally:
            detach(token)

    def _beginning(self, chunk: bytes) -> bytes:
        """Return what has come once it is known to be a stream of events; nothing of a JSON body."""
        self._body += chunk
        if sse.is_one_body(self._body) or sse.says_nothing_yet(self._body):
            return b""
        self._begun = True
        return bytes(self._body)

    def _body_that_may_pass(self) -> bytes:
        """Return the one JSON body that came in place of a stream, where it says nothing but that the call failed.

        Raises:
            MiddlewareError: it is an answer that no stream intercept has seen.
        """
        body = bytes(self._body)
        if sse.is_one_body(body):
            told = self._codec.decode_response(_json.loads_object(body))
            if told.error is None or told.messages:
                raise MiddlewareError(
                    "the provider answered a request for a stream with one JSON body, which stream intercepts cannot "
                    "work on, so the call is refused: ask for this answer without stream=True"
                )
        return body

    def _ended(self, rest: bytes) -> bytes:
        """Return the bytes that `rest` becomes, a frame without its blank line, and all that is held."""
        if not sse.events(rest):
            # The readable beginning of an event is text that no intercept has seen: it goes no further.
            return b"".join([*map(sse.frame, self._left()), sse.without_cut_event(rest)])
        frame = self._frame(rest)
        left = self._left()
        if frame is rest and left:
            frame = rest.rstrip(b"\r\n") + b"\n\n"
        return b"".join([frame, *map(sse.frame, left)])

    def _frame(self, frame: bytes) -> bytes:
        """Return the bytes that one frame becomes; what holds no event passes as it is."""
        event = next(iter(sse.events(frame)), None)
        if event is None:
            ends = sse.find_end(frame) >= 0
            return b"".join([*map(sse.frame, self._left() if ends else ()), frame])
        made = self._through(0, [event])
        if len(made) == 1 and _json.same(made[0], event):
            return frame
        return b"".join(map(sse.frame, made))

    def _managed(self, chunk: Any) -> list[Any]:
        """Return what one event of a managed stream becomes: itself, or others of its type."""
        event = typed.as_json(chunk)
        made = self._through(0, [event])
        if len(made) == 1 and _json.same(made[0], event):
            return [chunk]
        return [typed.build(type(chunk), one) for one in made]

    def _through(self, start: int, events: list[Any]) -> list[Any]:
        for stage in self._stages[start:]:
            events = [made for event in events for made in stage.feed(event)]
        return events

    def _left(self) -> list[Any]:
        left: list[Any] = []
        for index, stage in enumerate(self._stages):
            left += self._through(index + 1, cast("list[Any]", stage.finish()))
        return left


def _stage(entry: Middleware, call: Call, codec: Any) -> Stage:
    if entry.hold_back is None:
        return EventStage(entry, call)
    texts = getattr(codec, "stream_texts", None)
    if texts is None:
        raise MiddlewareError(
            f"stream intercept {entry.name!r} works on text, which a stream of a {call.kind} call has no form for; "
            "leave out hold_back= to get its events"
        )
    return TextStage(entry, call, entry.hold_back, texts)


def rewriting(entries: tuple[Middleware, ...], context: Context) -> Callable[..., Rewriter]:
    """Return what makes the rewriter of a stream: `(call, frames=...)`."""

    def make(call: Call, *, frames: bool) -> Rewriter:
        return Rewriter(call, entries, context, frames=frames)

    return make
