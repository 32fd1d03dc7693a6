"""Span attributes to records and back: the table of the dialects, one module or folder each.

Pure: no I/O, no OpenTelemetry, no SDK. A dialect is recognised span by span, never once for a process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from spanrelay.conversation import Conversation, Telling
from spanrelay.errors import ConfigurationError
from spanrelay.records import Kind, ModelRequest, SpanRecord
from spanrelay.semconv import frameworks, genai, genkit, names, openinference, traceloop, vercel_ai
from spanrelay.semconv.fields import counts_of, read_raised
from spanrelay.semconv.messages import write_messages
from spanrelay.semconv.names import AttributeValue
from spanrelay.semconv.omissions import omission_of
from spanrelay.semconv.span_names import kind_of_span

__all__ = ["DIALECTS", "kind_of", "read", "telling_of", "write", "write_start", "written_as"]

DEFAULT_DIALECT = "genai"


def write_start(record: SpanRecord, dialect: str = DEFAULT_DIALECT) -> dict[str, AttributeValue]:
    """Return the attributes for the start of `record`'s span: what samplers need.

    Raises:
        ConfigurationError: there is no such dialect.
    """
    request = record.request
    if request is None or record.agent is not None or record.tool is not None:
        return _writer(_START, dialect)(record)
    told = (request.model, request.stream, record.session_id, record.user_id)
    return _start_of_call(dialect, record.kind, record.operation, record.provider, *told).copy()


@lru_cache(maxsize=256)
def _start_of_call(
    dialect: str,
    kind: Kind | None,
    operation: str | None,
    provider: str | None,
    model: str | None,
    stream: bool,
    session: str | None,
    user: str | None,
) -> dict[str, AttributeValue]:
    """Return the start of a call without a tool or an agent: most calls of a program start alike."""
    record = SpanRecord(0, 0, kind=kind, operation=operation, provider=provider, session_id=session, user_id=user)
    record.request = ModelRequest(model, stream=stream)
    return _writer(_START, dialect)(record)


def write(
    record: SpanRecord, dialect: str = DEFAULT_DIALECT, *, content: bool, history: str | None = None
) -> dict[str, AttributeValue]:
    """Return the attributes for the end of `record`'s span, to be set over those of its start.

    Args:
        record: The span's record.
        dialect: `genai` (with OpenInference's kind and scalars beside) or `openinference` (with
            OpenTelemetry's operation, provider and model beside).
        content: Whether messages, arguments and results are written.
        history: What stands where the messages of a request do, which are `telling_of`, unless that is None.

    Raises:
        ConfigurationError: there is no such dialect.
    """
    return _writer(_END, dialect)(record, content, history)


def telling_of(record: SpanRecord, dialect: str) -> Telling | None:
    """Return the messages of `record`'s request as `dialect` writes them in one attribute, where they are known so."""
    messages = record.request.messages if record.request is not None else None
    if type(messages) is not Conversation or dialect == "openinference":
        return None
    return messages.telling(write_messages)


def _start_genai(record: SpanRecord) -> dict[str, AttributeValue]:
    attributes = genai.start_attributes(record)
    openinference.write_start_scalars(record, attributes)
    return attributes


_End = Callable[[SpanRecord, bool, str | None], dict[str, AttributeValue]]


def _genai_by(table: names.UsageNames) -> _End:
    usage = counts_of(table)

    def end(record: SpanRecord, content: bool, history: str | None) -> dict[str, AttributeValue]:
        attributes = genai.to_attributes(record, content=content, usage=usage, history=history)
        openinference.write_end_scalars(record, attributes)
        return attributes

    return end


def _start_openinference(record: SpanRecord) -> dict[str, AttributeValue]:
    attributes = openinference.start_attributes(record)
    operation = record.operation or names.OPERATION_OF_KIND.get(record.kind)
    if operation is not None:
        attributes[names.OPERATION] = operation
    if record.provider is not None:
        attributes[names.PROVIDER] = record.provider
    if record.request is not None and record.request.model is not None:
        attributes[names.REQUEST_MODEL] = record.request.model
    return attributes


def _end_openinference(record: SpanRecord, content: bool, _history: str | None) -> dict[str, AttributeValue]:
    return openinference.to_attributes(record, content=content)


_START: dict[str, Callable[[SpanRecord], dict[str, AttributeValue]]] = {
    "genai": _start_genai,
    "openinference": _start_openinference,
}
_END: dict[str, _End] = {
    "genai": _genai_by(names.USAGE_NAMES),
    "openinference": _end_openinference,
}
DIALECTS = tuple(_START)
"""The dialects that can be written; the others are read only."""


def written_as(dialect: str, convention: str) -> str:
    """Return the dialect that writes `dialect` by a version of OpenTelemetry's GenAI conventions.

    Raises:
        KeyError: there is no such version.
    """
    usage = names.USAGE_NAMES_OF[convention]
    if convention == names.CONVENTION or dialect != DEFAULT_DIALECT:
        return dialect
    named = f"{dialect} {convention}"
    if named not in _END:
        _END[named], _START[named] = _genai_by(usage), _start_genai
    return named


def _writer(table: dict[str, Any], dialect: str) -> Callable[..., dict[str, AttributeValue]]:
    try:
        return table[dialect]
    except KeyError:
        choices = " or ".join(repr(name) for name in DIALECTS)
        raise ConfigurationError(f"unknown dialect {dialect!r}: expected {choices}") from None


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does, as far as its attributes say: a framework's word, OpenInference's or OpenTelemetry's."""
    kind: Kind | None = frameworks.kind_of(attributes) or openinference.kind_of(attributes)
    if kind is None or kind == "custom":
        for kind_in in _KINDS:
            found = kind_in(attributes)
            if found is not None:
                return found
    return kind


_KINDS: tuple[Callable[[Mapping[str, Any]], Kind | None], ...] = (
    vercel_ai.kind_of,
    genai.kind_of,
    traceloop.kind_of,
    genkit.kind_of,
)
_READERS = (
    ("vercel_ai", vercel_ai),
    ("genai", genai),
    ("traceloop", traceloop),
    ("genkit", genkit),
    ("openinference", openinference),
)


def read(attributes: Mapping[str, Any], record: SpanRecord) -> None:
    """Fill `record` from a span's attributes, whatever dialects they are in. Never raises.

    A span may carry several dialects: the first that says something of a field gives that field, and no
    message list is put together from two. The caller sets before what the span itself says (ids, times,
    status and exception as `record.error`).
    """
    if type(attributes) is not dict:
        attributes = dict(attributes)  # the SDK's own mapping takes a lock for each look
    if record.kind is None:
        record.kind = kind_of_span(record.scope_name, record.name) or kind_of(attributes)
    attributes = frameworks.translated(attributes, record.kind)
    if names.HISTORY_OMITTED in attributes:
        record.omitted = omission_of(attributes)
    for name, dialect in _READERS:
        if name == "openinference" and record.dialect is not None and openinference.adds_nothing(attributes):
            continue
        if dialect.recognises(attributes):
            record.dialect = record.dialect or name
            dialect.from_attributes(attributes, record)
    if record.kind == "tool" and record.marks:
        read_raised(record)
