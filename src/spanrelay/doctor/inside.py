"""Runs inside a program that the doctor starts: notes what is instrumented, imported and asked, a line of JSON each.

Nothing that was said is noted, and nothing here may reach the program.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import wrapt
from opentelemetry import trace
from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import _json, config
from spanrelay._guard import guarded
from spanrelay.imports import on_execution
from spanrelay.installed import version_of
from spanrelay.plugins import unguarded
from spanrelay.plugins.demand import demand
from spanrelay.providers import SDK, SDKS

VARIABLE = "SPANRELAY_DOCTOR"
"""The variable that names the folder of the notes."""

_MODEL = ("gen_ai.operation.name", "openinference.span.kind", "llm.request.type", "traceloop.span.kind")
"""Attributes by which instrumentations say that a span is of an agent or a model."""


class _Open(NamedTuple):
    trace: int
    thread: int
    scope: str


def note(event: str, **facts: object) -> None:
    """Write one line, whole, into the file of this process."""
    with guarded("noting what a program does"):
        folder = config.variable(VARIABLE)
        if folder:
            line = _json.dumps({"event": event, "process": os.getpid(), **facts}) + b"\n"
            with Path(folder, f"{os.getpid()}.jsonl").open("ab", buffering=0) as file:
                file.write(line)


def begin() -> None:
    """Look on from here: the providers are built, and no instrumentor is in force yet."""
    with guarded("looking on"):
        early = [sdk.package for sdk in _installed() if sdk.module in sys.modules]
        note("begun", python=sys.executable, early=early)
        _watch_spans()
        unguarded.on_http(_asked)


def instrumented() -> None:
    """Note what is in force now, and each SDK as it is imported."""
    with guarded("looking on"):
        note("instrumented", names=sorted(_in_force()))
        for sdk in _installed():
            module = sdk.sends[0].partition(":")[0] if sdk.sends else sdk.module
            on_execution(module, partial(_imported, sdk))
            if module in sys.modules:
                _imported(sdk, sys.modules[module])


def _installed() -> Iterator[SDK]:
    """Yield the SDKs that are installed: a program may have a module of its own that is called as one of theirs."""
    return (sdk for sdk in SDKS if version_of(sdk.package) is not None)


def _in_force() -> Iterator[str]:
    for entry in entry_points(group="opentelemetry_instrumentor"):
        module, _, name = entry.value.partition(":")
        instance = getattr(getattr(sys.modules.get(module), name, None), "_instance", None)
        if getattr(instance, "is_instrumented_by_opentelemetry", False):
            yield entry.name


def _imported(sdk: SDK, module: Any) -> None:
    note("imported", package=sdk.package, patched=sdk.package in demand.guarded)


def _asked(provider: str, recorded: bool) -> None:
    note("asked", provider=provider, recorded=recorded or _is_of_model(trace.get_current_span()))


def _is_of_model(span: trace.Span) -> bool:
    """Whether a span that is current says that it is a model's or an agent's, by whomever it was made."""
    attributes = getattr(span, "attributes", None) or {}
    return span.is_recording() and any(name in attributes for name in _MODEL)


def _watch_spans() -> None:
    """Note where recording begins, and spans that begin a trace while another thread is in one."""
    opened: dict[int, _Open] = {}
    seen: set[int] = set()

    def start(wrapped: Any, span: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        with guarded("looking at spans"):
            if os.getpid() not in seen:
                seen.add(os.getpid())
                note("recording")
            mine = _Open(span.context.trace_id, threading.get_ident(), str(span.instrumentation_scope.name))
            others = [each for each in list(opened.values()) if each.thread != mine.thread]
            if span.parent is None and others and all(each.trace != mine.trace for each in others):
                note("alone", trace=mine.trace.to_bytes(16, "big").hex(), beside=others[-1].scope)
            opened[span.context.span_id] = mine
        return result

    def end(wrapped: Any, span: Any, args: Any, kwargs: Any) -> Any:
        opened.pop(span.context.span_id, None)
        return wrapped(*args, **kwargs)

    # The class and not a processor: the program may set providers of its own.
    wrapt.wrap_function_wrapper("opentelemetry.sdk.trace", "Span.start", start)
    wrapt.wrap_function_wrapper("opentelemetry.sdk.trace", "Span.end", end)
