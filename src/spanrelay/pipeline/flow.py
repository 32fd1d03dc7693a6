"""The order of one call, without I/O: request intercepts, guardrails, execution intercepts around the sending.

One generator serves sync and async, streams and whole answers: it yields effects, and a driver performs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import GeneratorType
from typing import Any, NoReturn, TypeAlias, cast

from opentelemetry.context import Context
from opentelemetry.trace import Span

from spanrelay._guard import broke_in
from spanrelay._json import clean_text
from spanrelay.errors import GuardrailRejected, MiddlewareError, SpanRelayError
from spanrelay.pipeline.call import Call, Response
from spanrelay.pipeline.middleware import CALLED, Chain, Frame, Middleware, Place, policy_context
from spanrelay.pipeline.rewriting import rewriting
from spanrelay.pipeline.stream import Tap
from spanrelay.pipeline.trial import would_change, would_fail, would_refuse
from spanrelay.records import SpanRecord, ToolResult
from spanrelay.semconv import names
from spanrelay.tracing import describe_error, fail


class Send:
    """Effect: make the real call; the driver sends back what the SDK returned."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call


class Wait:
    """Effect: wait for `awaitable` at most `timeout` seconds; the driver sends back its result.

    It runs in `context`, the policy's: a coroutine has none of its own.
    """

    __slots__ = ("awaitable", "context", "name", "timeout")

    def __init__(self, awaitable: Awaitable[Any], entry: Middleware, context: Context) -> None:
        self.awaitable = awaitable
        self.name = entry.name
        self.timeout = entry.timeout
        self.context = context


class Apart:
    """Effect: call `work`, which may block: at once in a sync call, off the event loop in an async one.

    Middleware of ours returns or yields it; the driver sends back what `work` returns, which may be awaited then.
    """

    __slots__ = ("work",)

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work


class Together:
    """Effect: run several branches at the same time; the driver sends back their results, in order."""

    __slots__ = ("branches",)

    def __init__(self, branches: list[tuple[Call, Frame, Flow]]) -> None:
        self.branches = branches


class Answer:
    """Effect: turn `body` into what the SDK would have returned."""

    __slots__ = ("body", "call")

    def __init__(self, call: Call, body: Any) -> None:
        self.call = call
        self.body = body


class Drain:
    """Effect: read a stream to its end and keep it."""

    __slots__ = ("tap",)

    def __init__(self, tap: Tap) -> None:
        self.tap = tap


class Leave:
    """Effect: close a stream that nobody is to read."""

    __slots__ = ("tap",)

    def __init__(self, tap: Tap) -> None:
        self.tap = tap


class Deliver:
    """Effect: give the stream to its consumer now; the flow goes on when the stream has ended."""

    __slots__ = ("native", "tap")

    def __init__(self, native: Any, tap: Tap) -> None:
        self.native = native
        self.tap = tap


Effect: TypeAlias = Send | Wait | Apart | Together | Answer | Drain | Leave | Deliver
Flow: TypeAlias = Generator[Effect, Any, Any]


def flow_of(call: Call, chain: Chain, frame: Frame) -> Flow:
    """Run `call` through `chain`; returns what the application is to get."""
    refused: SpanRelayError | None = None
    response: Response | None = None
    try:
        if not call.exempt:
            call.insist_on_reading()
        if chain.streams:
            call.rewriting = rewriting(chain.streams, policy_context(call, frame))
        yield from _edit(call, chain, frame)
        if not chain.choosing:
            yield from _judge(call, chain, frame)
        response = yield from _layer(call, chain, frame, 0)
    except _GivenUp as given_up:
        raise given_up.error from None
    except GuardrailRejected as refusal:
        if call.kind == "tool" and any(e.answers and e.name == refusal.name for e in chain.guardrails):
            response = _Made(call, _refusal(call, refusal), refusal.name)
        refused = refusal
    except Exception as error:
        response = _left_broken(frame, error)
        if response is None and not isinstance(error, SpanRelayError):
            raise
        refused = error if isinstance(error, SpanRelayError) else None
    if response is None and refused is not None:
        _refuse(call, refused)
    refused = None  # whose traceback has this frame: no cycle is to keep it
    return (yield from _settle(call, cast("Response", response)))


def _refuse(call: Call, refusal: SpanRelayError) -> NoReturn:
    """Raise what the real call would have raised by itself, else the refusal."""
    try:
        if not call.root.sends:
            call.check_sendable()
        raise refusal
    finally:
        del refusal  # as above


def _left_broken(frame: Frame, error: Exception) -> Response | None:
    """Return the response with the stream that broke by `error`, where policy let that pass.

    The consumer gets the error from its first `next()`, by which it knows what is wrong with a stream.
    """
    broken, frame.broken = frame.broken, None
    return broken[1] if broken is not None and broken[0].broke_by(error) else None


def judged(call: Call, chain: Chain, frame: Frame) -> Flow:
    """Run the request intercepts and the guardrails alone: somebody else sends what they leave."""
    call.insist_on_reading()
    yield from _edit(call, chain, frame)
    yield from _judge(call, chain, frame)


def _refusal(call: Call, refusal: GuardrailRejected) -> ToolResult:
    """Return the reason as the tool's answer, which the trace still shows as refused."""
    call.record.error = describe_error(refusal)
    return ToolResult(str(refusal), is_error=True)


def _edit(call: Call, chain: Chain, frame: Frame) -> Flow:
    for entry in chain.requests:
        if entry.on_trial:
            yield from _try_edit(entry, call, frame)
            continue
        edited = yield from _ask(entry, call, frame)
        try:
            if edited is not None:
                call.edit(edited)
            call.check_whole()
        except MiddlewareError as error:
            raise MiddlewareError(f"request intercept {entry.name!r}: {error}") from None
        if entry.stop:
            return


def _copy_of(call: Call) -> Call:
    """Return a copy for policy on trial, which says afterwards whether it was changed."""
    shown = call.shown()
    shown.judge()
    return shown


def _try_edit(entry: Middleware, call: Call, frame: Frame) -> Flow:
    """Run a request intercept on trial."""
    shown = _copy_of(call)
    try:
        edited = yield from _ask(entry, shown, frame)
        if edited is not None:
            shown.edit(edited)
        shown.check_whole()
        if shown.changed():
            would_change(call, entry, "the request")
    except Exception as error:
        would_fail(call, entry, error)


def _judge(call: Call, chain: Chain, frame: Frame) -> Flow:
    if not chain.guardrails:
        return
    call.judge()
    for entry in chain.guardrails:
        yield from _ask_guardrail(entry, call, frame)


def _ask_guardrail(entry: Middleware, call: Call, frame: Frame) -> Flow:
    span = _guardrail_span(entry, call)
    try:
        shown = _copy_of(call) if entry.on_trial else call
        reason = yield from _ask(entry, shown, frame)
        reason = _reason_of(entry, reason)
        if span.is_recording():
            span.set_attribute(names.GUARDRAIL_VERDICT_TYPE, "allow" if reason is None else "deny")
            span.set_attribute(names.GUARDRAIL_ACTION_TYPE, "allow" if reason is None or entry.on_trial else "block")
            if reason is not None:
                span.set_attribute(names.GUARDRAIL_VERDICT_REASON, clean_text(reason))
    except BaseException as error:
        told = describe_error(error.__cause__ if isinstance(error, MiddlewareError) and error.__cause__ else error)
        fail(span, told)
        span.set_attribute(names.ERROR_TYPE, clean_text(told.type))
        if not (entry.on_trial and isinstance(error, Exception)):
            raise
        would_fail(call, entry, error)
        return
    finally:
        span.end()
    if shown is not call:
        if reason is not None:
            would_refuse(call, entry, reason)
        elif shown.changed():
            would_change(call, entry, "the request")
    elif reason is not None:
        raise GuardrailRejected(reason, entry.name)


def _reason_of(entry: Middleware, reason: Any) -> str | None:
    """Return the reason of a guardrail as plain text: a class of the application's may raise when it is looked at."""
    if reason is None or type(reason) is str:
        return reason
    if issubclass(type(reason), str):
        return str.__str__(reason)
    raise MiddlewareError(
        f"guardrail {entry.name!r} must return None or the reason to refuse, not {type(reason).__name__!r}"
    )


def _guardrail_span(entry: Middleware, call: Call) -> Span:
    operation = names.OPERATION_OF_KIND["guardrail"]
    record = SpanRecord(0, 0, name=names.span_name("guardrail", operation, entry.name), kind="guardrail")
    record.operation = operation
    record.session_id, record.user_id = call.record.session_id, call.record.user_id
    span = call.tracing.open(record, call.context)
    if span.is_recording():
        span.set_attribute(names.GUARDRAIL_COMPONENT_NAME, clean_text(entry.name))
        if entry.on_trial:
            span.set_attribute(names.POLICY_MODE, "observe")
        span.set_attribute(names.GUARDRAIL_TARGET_SUBTYPE, names.GUARDRAIL_TARGETS.get(call.kind, call.kind))
    return span


def _ask(entry: Middleware, call: Call, frame: Frame) -> Flow:
    """Run a function that answers at once or with an awaitable.

    It has other words for a refusal, so what it raises is a fault of its own. Running out of stack or memory is not.
    """
    frame.running = entry
    try:
        answer = entry.function(call)
        if type(answer) is Apart:
            answer = yield answer
        if inspect.isawaitable(answer):
            call.hold()
            answer = yield Wait(answer, entry, policy_context(call, frame))
    except (SpanRelayError, RecursionError, MemoryError):
        raise
    except Exception as error:
        if broke_in(error):
            raise
        whose, told = f"{CALLED[entry.family]} {entry.name!r}", describe_error(error)
        raise MiddlewareError(
            f"{whose} raised {type(error).__name__}, so the call is refused: {told.message}"
        ) from error
    finally:
        frame.running = None
    return answer


def _layer(call: Call, chain: Chain, frame: Frame, index: int) -> Flow:
    """Run the execution intercepts from `index` on, and the sending within; returns a `Response` or an answer."""
    if chain.choosing and index == chain.choosing:
        yield from _judge(call, chain, frame)
    if index == len(chain.executions):
        return (yield from _send(call, chain, frame))
    entry = chain.executions[index]
    if entry.on_trial:
        return (yield from _try_around(call, chain, frame, index))
    if entry.place is Place.ANSWERS:
        yield from _judge_again(call, chain, frame)
    frame.running = entry
    body: Any = entry.function(call)
    if type(body) is not GeneratorType:
        raise MiddlewareError(f"execution intercept {entry.name!r} must be a generator function")
    steps = cast("Generator[Any, Any, Any]", body)
    last: Response | None = None
    value: Any = None
    error: BaseException | None = None
    while True:
        frame.running = entry
        try:
            effect = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as stop:
            return _answer_of(entry, stop.value, last, call)
        except BaseException as raised:
            if isinstance(raised, Exception) and raised is not error and not broke_in(raised):
                _note(entry, raised)
            error = None  # whose traceback has this frame: no cycle is to keep it
            raise
        finally:
            frame.running = None
        value, error = None, None
        try:
            if isinstance(effect, Call):
                last = value = yield from _layer(effect, chain, frame, index + 1)
            else:
                value = yield from _perform(effect, entry, call, chain, frame, index)
        except (GeneratorExit, _GivenUp):
            steps.close()
            raise
        except BaseException as raised:
            error = raised


def _try_around(call: Call, chain: Chain, frame: Frame, index: int) -> Flow:
    """Send the call once, with an execution intercept on trial around it, which cannot change what comes of it."""
    entry, sending = chain.executions[index], _Sending()
    try:
        yield from _tried(entry, call, chain, frame, index, sending)
    except _GivenUp:
        raise
    except Exception as error:
        if error is not sending.error:
            would_fail(call, entry, error)
    if sending.error is not None:
        try:
            raise sending.error
        finally:
            sending.error = None  # as in `_layer`
    return sending.response or (yield from _layer(call, chain, frame, index + 1))


def _tried(entry: Middleware, call: Call, chain: Chain, frame: Frame, index: int, sending: _Sending) -> Flow:
    """Run the intercept with a copy of the call; it is told what came of the one sending however often it asks."""
    shown = _copy_of(call)
    steps = cast("Generator[Any, Any, Any]", entry.function(shown))
    value: Any = None
    error: BaseException | None = None
    while True:
        frame.running = entry
        try:
            effect = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as stop:
            if stop.value is not None and stop.value is not value:
                would_change(call, entry, "the answer")
            return
        except BaseException:
            error = None  # as in `_layer`
            raise
        finally:
            frame.running = None
        value, error = None, None
        try:
            if type(effect) is Apart or inspect.isawaitable(effect):
                value = yield from _perform(effect, entry, shown, chain, frame, index)
                continue
            if any(isinstance(each, Call) and each.changed() for each in _calls_of(effect)):
                would_change(call, entry, "the request")
            response = yield from _sent_once(call, chain, frame, index, sending)
            value = [response] * len(effect) if isinstance(effect, list) else response
        except (GeneratorExit, _GivenUp):
            steps.close()
            raise
        except BaseException as raised:
            error = raised


def _calls_of(effect: Any) -> list[Any]:
    return cast("list[Any]", effect) if isinstance(effect, list) else [effect]


class _Sending:
    """What came of the one sending that an execution intercept on trial stands around."""

    __slots__ = ("error", "response")

    def __init__(self) -> None:
        self.response: Response | None = None
        self.error: BaseException | None = None


def _sent_once(call: Call, chain: Chain, frame: Frame, index: int, sending: _Sending) -> Flow:
    if sending.error is not None:
        raise sending.error
    if sending.response is None:
        try:
            sending.response = yield from _layer(call, chain, frame, index + 1)
        except _GivenUp:
            raise
        except Exception as error:
            sending.error = error
            raise
    return sending.response


def _note(entry: Middleware, error: Exception) -> None:
    """Say whose exception it is that an execution intercept raises, which is its way to refuse; it stays what it is."""
    note = f"raised by the execution intercept {entry.name!r} of SpanRelay"
    add_note = getattr(error, "add_note", None)  # from Python 3.11 on
    if add_note is not None and not isinstance(error, SpanRelayError) and note not in getattr(error, "__notes__", ()):
        add_note(note)


def _perform(effect: Any, entry: Middleware, call: Call, chain: Chain, frame: Frame, index: int) -> Flow:
    """Do what an execution intercept yielded instead of a call: several to send together, or something to wait for."""
    if isinstance(effect, list):
        branches = cast("list[Any]", effect)
        if not branches or not all(isinstance(branch, Call) for branch in branches):
            raise MiddlewareError(f"execution intercept {entry.name!r} may yield a list of calls, not {effect!r}")
        return (yield Together([_branch(branch, chain, frame, index) for branch in branches]))
    if type(effect) is Apart:
        return (yield effect)
    if inspect.isawaitable(effect):
        call.hold()
        frame.running = entry
        try:
            return (yield Wait(effect, entry, policy_context(call, frame)))
        finally:
            frame.running = None
    raise MiddlewareError(
        f"execution intercept {entry.name!r} must yield the call, a list of calls or an awaitable, "
        f"not {type(effect).__name__!r}"
    )


def _branch(branch: Call, chain: Chain, frame: Frame, index: int) -> tuple[Call, Frame, Flow]:
    branch.beside = True
    own = Frame(frame.above)
    return branch, own, _answered(branch, chain, own, index)


def _answered(branch: Call, chain: Chain, frame: Frame, index: int) -> Flow:
    return (yield from _layer(branch, chain, frame, index + 1))


class _Made(Response):
    """An answer that middleware made, `native` as it made it; `by` is its name."""

    __slots__ = ("by",)

    def __init__(self, call: Call, native: Any, by: str) -> None:
        super().__init__(call, native)
        self.by = by

    @property
    def record(self) -> Any:
        """The answer as policy around it is to see it."""
        if self._record is None:
            self._record = self.call.read_answer(self.native)
        return self._record


def _send(call: Call, chain: Chain, frame: Frame) -> Flow:
    """Send the call; a request changed since the guardrails saw it passes them again."""
    shown = call.root.tap
    if shown is not None and shown.delivered:
        raise _unrepeatable(shown)
    if call.tap is not None:
        call.tap.forget()
    yield from _judge_again(call, chain, frame)
    if call.beside and call.streams and not chain.buffered:
        raise MiddlewareError(_TOGETHER)
    if (chain.buffered or chain.streams) and getattr(call.boundary, "pushes", False):
        raise MiddlewareError(_PUSHED)
    call.check_whole()
    call.root.sends += 1
    call.record.incomplete = None  # of the answer before this one
    if chain.streams:
        call.rewriting = rewriting(chain.streams, policy_context(call, frame))
    native = yield Send(call)
    if call.begun is not None:
        call.begun()
    tap = call.tap
    if tap is not None and chain.buffered:
        frame.broken = tap, Response(call, native)
        yield Drain(tap)
        frame.broken = None
    elif tap is not None:
        if call.beside:
            yield Leave(tap)
            raise MiddlewareError(_TOGETHER)
        # From here on the stream is the application's, and ends the call that the application made.
        call.root.adopt(Response(call, native))
        tap.call, call.record = call.root, call.root.record
        yield Deliver(native, tap)
    return Response(call, native)


def _judge_again(call: Call, chain: Chain, frame: Frame) -> Flow:
    """Let the guardrails judge a request that was changed since they saw it."""
    if chain.guardrails and call.changed():
        yield from _judge(call, chain, frame)
        if call.changed():
            raise MiddlewareError(_CHANGED_WHILE_JUDGED)


class _GivenUp(Exception):
    """Passes all middleware and leaves as `error`: it was told once, and asked for the same again."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _unrepeatable(shown: Tap) -> BaseException:
    """Return why a stream that its consumer has seen something of is not sent again."""
    error = shown.failure or MiddlewareError("a stream that has been delivered cannot be sent again")
    if shown.refused:
        return _GivenUp(error)
    shown.refused = True
    return error


_CHANGED_WHILE_JUDGED = (
    "a guardrail changes the request each time that it checks it, so nobody has checked what would be sent, and the "
    "call is refused; change requests in a request intercept"
)
_PUSHED = (
    "stream intercepts, and what waits for a whole answer (buffered=True), do not reach what comes over a WebSocket; "
    "ask over HTTP"
)
_TOGETHER = "streams cannot be sent together; register the execution intercept with buffered=True"


def _answer_of(entry: Middleware, value: Any, last: Response | None, call: Call) -> Response:
    """Return what an execution intercept returned; None after a `yield` means the answer unchanged."""
    if value is None:
        if last is None:
            raise MiddlewareError(f"execution intercept {entry.name!r} neither sent the call nor returned an answer")
        return last
    return value if isinstance(value, Response) else _Made(call, value, entry.name)


def _settle(call: Call, answer: Response) -> Flow:
    """Turn the outermost answer into what the application gets."""
    if not isinstance(answer, _Made):
        call.adopt(answer)
        if call.tap is not None:
            call.tap.call = call
            call.tap.hand_out()
        return answer.native
    if call.sends == 0:
        call.record.answered_by = answer.by
    if call.tap is not None and call.tap.delivered:
        raise MiddlewareError(
            f"execution intercept {answer.by!r}: a stream that has been delivered cannot be changed; "
            "register it with buffered=True"
        )
    return (yield Answer(call, _body_of(call, answer.native, answer.by)))


def _body_of(call: Call, record: Any, by: str) -> Any:
    if isinstance(record, call.answer_type):
        return call.encode_answer(record)
    if call.takes_any:
        return record
    if isinstance(record, Mapping):
        return call.checked_answer(dict(cast("Mapping[str, Any]", record)), by)
    raise MiddlewareError(
        f"execution intercept {by!r}: the answer to a call of kind {call.kind!r} must be a "
        f"{call.answer_type.__name__}, not {type(record).__name__!r}"
    )
