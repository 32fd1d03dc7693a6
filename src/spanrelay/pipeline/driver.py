"""Runs a call: `run` for sync, `arun` for async. The only place where the pipeline has two colours.

The application's exception leaves as the same object; policy code runs with no call in flight; no context token
is held while somebody else's code waits between chunks.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from opentelemetry.context import Context, attach, detach, set_value

from spanrelay.pipeline import loops
from spanrelay.pipeline.call import LOOKED_AT_KEY, Call, Opened
from spanrelay.pipeline.flow import Answer, Apart, Deliver, Drain, Flow, Leave, Send, Together, Wait, flow_of, judged
from spanrelay.pipeline.middleware import (
    Frame,
    chain_for,
    current_frame,
    is_covered,
    marks_for,
    policy_context,
    registered,
)
from spanrelay.tracing import SPAN_KEY, attach_within, detach_within


def run(call: Call) -> Any:
    """Run `call` and return what the SDK would have returned.

    Raises:
        GuardrailRejected: a guardrail refused; nothing was sent.
        MiddlewareError: policy code broke its contract; the call is refused.
        BaseException: whatever the real call or policy raised, unchanged.
    """
    token = attach_within(call.open())
    try:
        chain = marks_for(call) if call.exempt else chain_for(call)
        if chain is None:
            native = call.boundary.send(call)
        else:
            call.observed = True
            frame = _frame()
            native = _drive(flow_of(call, chain, frame), call, frame)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach_within(token)
    if call.arrived is None:
        call.finish()
    return native


async def arun(call: Call) -> Any:
    """Run `call` as `run` does, awaiting the real call and what policy waits for."""
    token = attach(call.open())
    try:
        chain = marks_for(call) if call.exempt else chain_for(call)
        if chain is None:
            native = await call.boundary.send(call)
        else:
            call.observed = True
            frame = _frame()
            native = await _adrive(flow_of(call, chain, frame), call, frame)
    except BaseException as error:
        call.fail(error)
        raise
    finally:
        detach(token)
    if call.arrived is None:
        call.finish()
    return native


async def ajudge(call: Call) -> None:
    """Let request intercepts and guardrails judge `call`, which is open and which somebody else sends.

    Raises:
        BaseException: as `arun`; the call is not ended by it.
    """
    chain = chain_for(call)
    if chain is not None:
        frame = _frame()
        await _adrive(judged(call, chain, frame), call, frame)


def is_unseen(opened: Opened) -> bool:
    """Whether nobody records the call that `opened` begins and no policy covers it: it needs no `Call`."""
    if opened.observed or registered.entries:
        return False
    return opened.scope is None or not is_covered(opened.scope)


def run_unseen(opened: Opened, send: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make an unseen call: `send(*args, **kwargs)` under its span."""
    token = attach_within(Context({**opened.outer, SPAN_KEY: opened.span, LOOKED_AT_KEY: True}))
    try:
        return send(*args, **kwargs)
    finally:
        detach_within(token)


async def arun_unseen(opened: Opened, send: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make an unseen call as `run_unseen` does, awaiting it."""
    token = attach(Context({**opened.outer, SPAN_KEY: opened.span, LOOKED_AT_KEY: True}))
    try:
        return await send(*args, **kwargs)
    finally:
        detach(token)


def run_looked_at(send: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a request that asks no model, and that nothing beneath has to look at again: `send(*args, **kwargs)`."""
    token = attach(set_value(LOOKED_AT_KEY, True))
    try:
        return send(*args, **kwargs)
    finally:
        detach(token)


async def arun_looked_at(send: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a request as `run_looked_at` does, awaiting it."""
    token = attach(set_value(LOOKED_AT_KEY, True))
    try:
        return await send(*args, **kwargs)
    finally:
        detach(token)


def _frame() -> Frame:
    outer = current_frame()
    return Frame(frozenset() if outer is None else outer.excluded())


class _Advance:
    """Advances a flow: middleware runs inside, in the policy's context, and the next effect comes out."""

    __slots__ = ("_context", "_flow", "_thrown", "value")

    def __init__(self, flow: Flow, call: Call, frame: Frame) -> None:
        self._flow = flow
        self._context = policy_context(call, frame)
        self._thrown: BaseException | None = None
        self.value: Any = None

    def __call__(self, value: Any, error: BaseException | None) -> Any:
        """Return the next effect; None when the flow is over and `value` is its result."""
        token = attach(self._context)
        try:
            if error is None:
                return self._flow.send(value)
            self._thrown = error
            return self._flow.throw(error)
        except StopIteration as stop:
            self.value = stop.value
            return None
        except RuntimeError as wrapped:
            # A StopIteration cannot leave a generator as itself (PEP 479).
            if self._thrown is None or wrapped.__cause__ is not self._thrown:
                raise
        finally:
            error = None  # whose traceback has this frame: the cycle would keep all that the application's frames hold
            detach(token)
        # Not in the `except`: its context stays what it was.
        raise self._thrown

    def forget(self) -> None:
        """Let go of what was thrown, for the same reason."""
        self._thrown = None


def _drive(flow: Flow, call: Call, frame: Frame) -> Any:
    return _continue(_Advance(flow, call, frame), None)


def _continue(advance: _Advance, error: BaseException | None) -> Any:
    value: Any = None
    try:
        while (effect := advance(value, error)) is not None:
            value, error = None, None
            if type(effect) is Deliver:
                effect.tap.deliver(partial(_continue, advance))
                return effect.native
            try:
                value = _PERFORM[type(effect)](effect)
            except BaseException as raised:
                error = raised
    finally:
        error = None
        advance.forget()
    return advance.value


def _send(effect: Send) -> Any:
    call = effect.call
    token = attach(call.context)
    try:
        return call.boundary.send(call)
    finally:
        detach(token)


def _wait(effect: Wait) -> Any:
    token = attach(effect.context)  # the loop's thread runs the work in the context of who hands it over
    try:
        return loops.own_loop().wait(effect)
    finally:
        detach(token)


def _together(effect: Together) -> list[Any]:
    with ThreadPoolExecutor(len(effect.branches), "spanrelay-branch") as pool:
        futures = [
            pool.submit(contextvars.copy_context().run, _drive, flow, branch, frame)
            for branch, frame, flow in effect.branches
        ]
    return [future.result() for future in futures]


_PERFORM: dict[type, Callable[[Any], Any]] = {
    Send: _send,
    Wait: _wait,
    Apart: lambda effect: effect.work(),
    Together: _together,
    Drain: lambda effect: effect.tap.drain(),
    Leave: lambda effect: effect.tap.leave(),
    Answer: lambda effect: effect.call.boundary.answer(effect.call, effect.body),
}


async def _adrive(flow: Flow, call: Call, frame: Frame) -> Any:
    return await _acontinue(_Advance(flow, call, frame), None)


async def _acontinue(advance: _Advance, error: BaseException | None) -> Any:
    value: Any = None
    try:
        while (effect := advance(value, error)) is not None:
            value, error = None, None
            if type(effect) is Deliver:
                effect.tap.deliver(partial(_acontinue, advance))
                return effect.native
            try:
                value = await _APERFORM[type(effect)](effect)
            except BaseException as raised:
                error = raised
    finally:
        error = None
        advance.forget()
    return advance.value


async def _asend(effect: Send) -> Any:
    call = effect.call
    token = attach(call.context)
    try:
        return await call.boundary.send(call)
    finally:
        detach(token)


async def _atogether(effect: Together) -> list[Any]:
    return await loops.together([partial(_adrive, flow, branch, frame) for branch, frame, flow in effect.branches])


_APERFORM: dict[type, Callable[[Any], Awaitable[Any]]] = {
    Send: _asend,
    Wait: loops.wait_within,
    Apart: lambda effect: loops.in_thread(effect.work),
    Together: _atogether,
    Drain: lambda effect: effect.tap.drain(),
    Leave: lambda effect: effect.tap.leave(),
    Answer: lambda effect: effect.call.boundary.answer(effect.call, effect.body),
}
