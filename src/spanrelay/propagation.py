"""Where work belongs, across processes: W3C trace context in HTTP headers, the environment, or JSON.

The trace's identity goes by OpenTelemetry's propagators; session, user and metadata go in the JSON form alone.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from opentelemetry import propagate
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.records import JSON, SpanRecord
from spanrelay.scopes import Scope, current_scope, place_now

_W3C = TraceContextTextMapPropagator()
_VERSION = 1


def headers(context: Context | None = None) -> dict[str, str]:
    """Return the HTTP headers that carry `context`, by the propagators that `OTEL_PROPAGATORS` names."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, place_now() if context is None else context)
    return carrier


def environment(context: Context | None = None) -> dict[str, str]:
    """Return the variables that carry `context` into a child process: `TRACEPARENT` and `TRACESTATE`."""
    return {name.upper(): value for name, value in trace_headers(context).items()}


def trace_headers(context: Context | None = None) -> dict[str, str]:
    """Return `traceparent` and `tracestate` alone, whatever else is propagated."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, place_now() if context is None else context)
    return carrier


def to_json(context: Context | None = None) -> str:
    """Return `context` as JSON text: the trace's identity, and the scope's session, user and metadata."""
    scope = current_scope(context)
    document: dict[str, JSON] = {"version": _VERSION, **trace_headers(context)}
    if scope is not None:
        identity = {"session": scope.session_id, "user": scope.user_id, "metadata": scope.metadata or None}
        document.update({name: value for name, value in identity.items() if value is not None})
    return _json.dumps_text(document)


@contextmanager
def continued(carrier: Mapping[str, str] | str) -> Generator[Context]:
    """Make what a carrier holds current for the block: headers, an environment, or the JSON form.

    A carrier without a trace leaves the current context as it is.

    Raises:
        ConfigurationError: JSON that is malformed, of another version, or whose trace is malformed.
    """
    token = attach(_read_json(carrier) if isinstance(carrier, str) else _read_headers(carrier))
    try:
        yield get_current()
    finally:
        detach(token)


_joined: list[object] = []


def join(carrier: Mapping[str, str]) -> None:
    """Make the trace in the environment of this process the parent of what it starts. Once, in the main thread."""
    if not _joined:
        _joined.append(attach(_W3C.extract(carrier, get_current())))


def _read_headers(carrier: Mapping[str, str]) -> Context:
    # An environment has its names in capitals, and HTTP's may come in any case.
    return propagate.extract({name.lower(): value for name, value in carrier.items()}, get_current())


def _read_json(text: str) -> Context:
    try:
        document: Any = _json.loads(text)
    except ValueError as error:
        raise ConfigurationError(
            f"not a propagation context: expected what propagation.to_json() returned: {error}"
        ) from None
    if not isinstance(document, dict):
        raise ConfigurationError("not a propagation context: expected what propagation.to_json() returned")
    fields = cast("dict[str, Any]", document)
    if fields.get("version") != _VERSION:
        raise ConfigurationError(f"propagation context version {fields.get('version')!r}; expected {_VERSION}")
    for name, (kind, expected) in _FORMS.items():
        if fields.get(name) is not None and not isinstance(fields[name], kind):
            raise ConfigurationError(f"propagation context: {name} is {fields[name]!r}; expected {expected}")
    carrier = {name: value for name, value in fields.items() if isinstance(value, str)}
    _check_trace(carrier)
    metadata = fields.get("metadata")
    return identified(
        _W3C.extract(carrier, get_current()),
        session_id=carrier.get("session"),
        user_id=carrier.get("user"),
        metadata=cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else None,
    )


def identified(
    context: Context,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, JSON] | None = None,
) -> Context:
    """Return `context` with who its work belongs to, which reaches every span below as a scope's own does."""
    record = SpanRecord(0, 0, session_id=session_id, user_id=user_id)
    record.metadata = dict(metadata or {})
    return Scope(record, current_scope(context), "continued").within(context)


_FORMS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("traceparent", "tracestate", "session", "user"), (str, "a text")),
    "metadata": (dict, "a JSON object"),
}


def _check_trace(carrier: Mapping[str, str]) -> None:
    """Refuse a trace that nothing can go on in: W3C's rule for headers, to begin a new one in silence, would lose it.

    Raises:
        ConfigurationError: `traceparent` is none.
    """
    given = carrier.get("traceparent")
    if given is not None and not get_current_span(_W3C.extract(carrier, Context())).get_span_context().is_valid:
        raise ConfigurationError(
            f"propagation context: traceparent is {given!r}; expected version, trace, span and flags in hexadecimal, "
            "as in '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'. Take it as to_json() gave it"
        )
