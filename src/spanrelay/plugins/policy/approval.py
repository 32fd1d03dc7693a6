"""Decisions by people: what policy would refuse is put before an approver, who may let this one call pass.

Whatever goes wrong refuses: nobody to ask, an error, an answer that is none, and time that runs out.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import os
import select
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, cast

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from spanrelay import _json
from spanrelay._voice import marked
from spanrelay.pipeline.loops import leave, on_own_loop, running_trio
from spanrelay.pipeline.middleware import Middleware, Mode, leave_nothing_out, leaving_out
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.limits import OnRefusal
from spanrelay.plugins.policy.settings import Approval, PolicyConfig
from spanrelay.records import JSON
from spanrelay.registry import Handle
from spanrelay.semconv import names

Judges: TypeAlias = Callable[[Any], "str | None"]
MAX_ANSWER = 65_536
"""Bytes that an answer may have."""
MARGIN_S = 5.0
"""What a guardrail waits for longer than the approver has, so that it is the approver's time that runs out."""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What an approver is asked: the call, and why policy would refuse it.

    `kind` is that of the call (`tool`, `llm`), `name` of the tool or the model, `arguments` what a tool is given.
    """

    kind: str
    name: str | None
    reason: str
    guardrail: str
    arguments: JSON
    session: str | None
    user: str | None
    trace_id: str


Approver: TypeAlias = Callable[[ApprovalRequest], Any]
"""Answers true or false, or `{"decision": "allow" or "deny", "reason": text}`, at once or awaited."""

_approvers: list[Approver] = []


def approve_with(approver: Approver) -> Handle:
    """Ask `approver` for this process, in the place of what files say; the handle takes it out again.

    A plain function is called in a thread of its own. Neither policy of the plugin nor recording concerns the calls
    that an approver makes.
    """
    if not callable(approver):
        raise TypeError(f"an approver is a function of an ApprovalRequest, not {approver!r}")
    _approvers.append(approver)
    return Handle(lambda: _approvers.remove(approver) if approver in _approvers else None)


class _Denied(Exception):
    """Why an approver did not allow a call."""


class _Late(Exception):
    """Nobody answered in time."""


class Approvals:
    """Puts what is refused before the approver that a configuration names."""

    def __init__(self, context: Context, config: PolicyConfig) -> None:
        self._context = context
        self._config = config.approval or Approval()
        self._default = config.on_refusal
        self.patience = self._config.timeout + MARGIN_S

    def around(
        self, judge: Callable[[Any], str | None], guardrail: str, wanted: OnRefusal | None, mode: Mode | None
    ) -> Any:
        """Return `judge`, or what asks where it would refuse; nobody is asked about what is on trial."""
        if not self.asks(wanted, mode):
            return judge

        def ask(call: Any) -> Awaitable[str | None] | None:
            reason = judge(call)
            return None if reason is None else self.decide(call, reason, guardrail)

        return ask

    def asks(self, wanted: OnRefusal | None, mode: Mode | None) -> bool:
        """Whether an approver decides, by what a table or a rule says, or else the plugin."""
        return (wanted or self._default) == "ask" and (mode or self._context.mode) != "observe"

    async def decide(self, call: Any, reason: str, guardrail: str) -> str | None:
        """Return None where somebody allows the call, else why it is refused."""
        guardrail = f"{self._context.name}.{guardrail}"
        request = _request_of(call, reason, guardrail)
        entries = [entry for entry in self._context.entries if isinstance(entry, Middleware)]
        asking = leaving_out(entries)
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, asking))
        try:
            _check(await self._answer(request))
        except _Late:
            return f"{reason}; nobody allowed it within {self._config.timeout:g} s"
        except _Denied as denied:
            return f"{reason}; {denied}"
        except Exception as error:
            return f"{reason}; the approver could not be asked: {type(error).__name__}"
        finally:
            detach(token)
            leave_nothing_out(asking)
        told = {names.GUARDRAIL_COMPONENT_NAME: guardrail, names.GUARDRAIL_VERDICT_REASON: reason}
        call.span.add_event(names.APPROVED_EVENT, told)
        return None

    async def _answer(self, request: ApprovalRequest) -> Any:
        """Return what is answered, on the loop of the caller where that is the approver's own too."""
        trio = running_trio()
        if trio is None:
            return await self._answer_in_time(request)
        if not (_approvers and inspect.iscoroutinefunction(_approvers[-1])):
            return await on_own_loop(self._answer_in_time(request))
        with trio.move_on_after(self._config.timeout):
            return await self._awaited(_approvers[-1](request), time.monotonic())
        raise _Late

    async def _answer_in_time(self, request: ApprovalRequest) -> Any:
        # A task of its own: an approver that is cancelled cancels no call.
        asked = asyncio.ensure_future(self._asked(request))
        try:
            await asyncio.wait({asked}, timeout=self._config.timeout)
            if not asked.done():
                raise _Late
        finally:
            leave(asked)
        if asked.cancelled():
            raise _Denied("the approver could not be asked: CancelledError")
        return asked.result()

    async def _asked(self, request: ApprovalRequest) -> Any:
        began = time.monotonic()
        if _approvers:
            answer: Any = _approvers[-1]
            if inspect.iscoroutinefunction(answer):
                return await self._awaited(answer(request), began)
            answer = await _in_thread(answer, request)
            return await self._awaited(answer, began) if inspect.isawaitable(answer) else answer
        if self._config.url is not None:
            return await _in_thread(self._posted, request)
        if self._config.terminal and _is_at_terminal():
            return await _at_terminal(request, self._config.timeout)
        raise _Denied("there is no approver to ask; set approval.url or call approve_with()")

    async def _awaited(self, answer: Awaitable[Any], began: float) -> Any:
        """Wait for an answer: one that blocks its loop, as `input` does, holds up the time limit beside itself."""
        given = await answer
        if time.monotonic() - began > self._config.timeout:
            raise _Late
        return given

    def _posted(self, request: ApprovalRequest) -> Any:
        import urllib.error  # only where somebody is asked
        import urllib.request

        class Here(urllib.request.HTTPRedirectHandler):
            """An answer from elsewhere is none: whoever is asked was named."""

            def redirect_request(self, *args: Any, **kwargs: Any) -> None:
                return None

        headers = {name: secret.reveal() for name, secret in self._config.headers.items()}
        asked = urllib.request.Request(
            cast("str", self._config.url),
            _json.dumps(asdict(request)),
            {"content-type": "application/json", **headers},
        )
        try:
            with urllib.request.build_opener(Here).open(asked, timeout=self._config.timeout) as response:
                data = response.read(MAX_ANSWER + 1)
                if len(data) > MAX_ANSWER:
                    raise _Denied(f"the approver's answer is longer than {MAX_ANSWER} bytes")
                if response.length:
                    raise _Denied("the approver's answer is cut off")
                return _decision_in(data)
        except TimeoutError:
            raise _Late from None
        except urllib.error.HTTPError as error:
            error.close()  # it is the open response
            raise


def _decision_in(data: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer over HTTP; `true` alone may be any server's answer to anything."""
    answer = json.loads(data, object_pairs_hook=_once_each)
    if not isinstance(answer, dict):
        raise _Denied("the approver's answer is neither 'allow' nor 'deny'")
    return cast("dict[str, Any]", answer)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Denied("the approver's answer names a member twice")
    return members


def _check(answer: Any) -> None:
    """Raise `_Denied` unless `answer` allows."""
    if answer is True:
        return
    if answer is False:
        raise _Denied("the approver denies it")
    told = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    decision, reason = told.get("decision"), told.get("reason")
    if decision not in ("allow", "deny"):
        raise _Denied("the approver's answer is neither 'allow' nor 'deny'")
    if decision == "deny":
        raise _Denied(f"the approver denies it: {reason}" if reason else "the approver denies it")


def _request_of(call: Any, reason: str, guardrail: str) -> ApprovalRequest:
    asked, record = call.request, call.record
    name = asked.name if call.kind == "tool" else asked.model
    trace_id = format(call.span.get_span_context().trace_id, "032x")
    # A copy: what an approver makes of what it is shown is not what runs.
    given = _json.copied(asked.arguments) if call.kind == "tool" else None
    return ApprovalRequest(call.kind, name, reason, guardrail, given, record.session_id, record.user_id, trace_id)


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function` in a thread that keeps no program from ending, as those of an executor do."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(result) if error is None else future.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as raised:
            error = raised
            # What would end the thread, or what no future takes, has no other place to go.
            if not isinstance(raised, Exception) or isinstance(raised, StopIteration):
                error = _Denied(f"the approver could not be asked: {type(raised).__name__}")
        # The loop may be closed: nobody waits any more.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="spanrelay-approver", daemon=True).start()
    return await future


_GLANCE_S = 0.05
"""How often it is looked whether anybody still waits for what is typed."""
_terminal = threading.Lock()


def _free() -> None:
    """Take a lock that nobody holds: a forked child has none of its parent's threads."""
    global _terminal
    _terminal = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)


def _is_at_terminal() -> bool:
    """Whether somebody may answer here: in the background of a shell, reading its terminal would stop the program."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # a terminal that controls no jobs
        return True


async def _at_terminal(request: ApprovalRequest, timeout: float) -> bool:
    """Ask at the terminal, for as long as somebody waits: what is typed after that is the application's."""
    gone = threading.Event()
    try:
        return await _in_thread(_prompted, request, time.monotonic() + timeout, gone)
    finally:
        gone.set()


def _prompted(request: ApprovalRequest, until: float, gone: threading.Event) -> bool:
    """Ask at the terminal; what a model chose is shown as ASCII, so that it moves no cursor."""
    import termios  # only where there is a terminal: not on Windows

    shown = json.dumps(request.arguments)
    turn = _terminal
    # One question at a time, and none for a call that has been refused while it waited for its turn.
    if not turn.acquire(timeout=max(until - time.monotonic(), 0)):
        raise _Late
    try:
        if gone.is_set():
            raise _Late
        # What was typed before the question was seen answers another one.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        told = f"{request.kind} {request.name!a}: {request.reason!a}\n  given {shown}\n  allow this call? [y/N]"
        print(marked(told), end=" ", file=sys.stderr, flush=True)
        while not select.select([sys.stdin], [], [], min(max(until - time.monotonic(), 0), _GLANCE_S))[0]:
            if gone.is_set() or time.monotonic() >= until:
                raise _Late
        # Not by the buffer of Python's: that holds what the application has not read yet.
        return os.read(sys.stdin.fileno(), MAX_ANSWER).strip().lower() in (b"y", b"yes")
    finally:
        turn.release()
