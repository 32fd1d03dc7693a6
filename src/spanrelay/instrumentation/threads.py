"""Carries the context, and with it scopes and their policy, into threads and thread pools.

Nothing is wrapped where OpenTelemetry's own threading instrumentation does it already.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from inspect import getattr_static
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current

from spanrelay.instrumentation.wrappers import Wrapped

_OURS = ("spanrelay", "Otel")
"""Names of threads that work for the process and for no call: they must hold nobody's context."""

_NONE = object()

_wrapped: tuple[tuple[type, str, Any], ...] = ()
"""The methods that are wrapped: class, name, wrapper."""


def carry_context_into_threads() -> bool:
    """Let what a thread or a pool runs see the context it was started in; False where that is so already."""
    global _wrapped
    if _wrapped or _otel_does_it():
        return False
    _wrapped = ((threading.Thread, "start", _start), (ThreadPoolExecutor, "submit", _submit))
    for owner, name, wrapper in _wrapped:
        # Not from `vars`: gevent puts a class in the place of `Thread` that has inherited the method.
        setattr(owner, name, Wrapped(getattr_static(owner, name), wrapper))
    return True


def leave_threads_alone() -> None:
    """Take back what `carry_context_into_threads` did, unless somebody has wrapped that since."""
    global _wrapped
    for owner, name, wrapper in _wrapped:
        wrapped: Any = vars(owner)[name]
        if getattr(wrapped, "_self_wrapper", None) is not wrapper:
            return
        setattr(owner, name, wrapped.__wrapped__)
    _wrapped = ()


def _otel_does_it() -> bool:
    try:
        from opentelemetry.instrumentation.threading import (  # pyright: ignore[reportMissingImports] - an extra
            ThreadingInstrumentor,
        )
    except ImportError:
        return False
    return bool(ThreadingInstrumentor().is_instrumented_by_opentelemetry)


def _start(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    context = get_current()
    # Not its `name`, which one that was not made whole refuses in other words than `start` does.
    if not context or str(getattr(instance, "_name", "")).startswith(_OURS):
        return wrapped(*args, **kwargs)
    own = vars(instance).get("run", _NONE)
    _run_within(context, instance, own)
    try:
        return wrapped(*args, **kwargs)
    except BaseException:
        _run_as_before(instance, own)  # no thread came of it, and it may be started again
        raise


def _run_within(context: Context, thread: threading.Thread, own: Any) -> None:
    run = thread.run

    def in_context() -> None:
        _run_as_before(thread, own)
        _within(context, run)

    # Not by `setattr`, which a class of the application's may answer otherwise.
    vars(thread)["run"] = in_context


def _run_as_before(thread: threading.Thread, own: Any) -> None:
    """Give a thread back the `run` that it had of its own, or none: ours refers to it, so it would be freed late."""
    if own is _NONE:
        vars(thread).pop("run", None)
    else:
        vars(thread)["run"] = own


def _submit(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if not args:
        return wrapped(*args, **kwargs)
    work = functools.partial(_within, get_current(), args[0])
    # A pool's thread outlives the call that starts it and must not keep its context.
    token = attach(Context())
    try:
        return wrapped(work, *args[1:], **kwargs)
    finally:
        detach(token)


def _within(context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    token = attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        detach(token)
