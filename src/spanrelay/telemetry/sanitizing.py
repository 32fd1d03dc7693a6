"""What sanitizers make of a record, of a span of other instrumentation, and of a resource.

Fails closed: a field whose sanitizer breaks is left out, and what no sanitizer was shown is not recorded.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard, cast

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, Span
from opentelemetry.trace import Link, Status

from spanrelay import _json
from spanrelay._guard import losses, swallow
from spanrelay.records import JSON, ErrorInfo, Kind, Mark, ModelRequest, ModelResponse, SpanRecord
from spanrelay.semconv import kind_of, names
from spanrelay.semconv.messages import (
    read_definition,
    read_definitions,
    read_instructions,
    read_messages,
    read_parts,
    write_definition,
    write_messages,
    write_parts,
)
from spanrelay.semconv.values import decode, structure
from spanrelay.telemetry.injecting import injected
from spanrelay.telemetry.observers import Field, FieldName, Observer, Watchers, apart, watching
from spanrelay.tracing import Recorded

_log = logging.getLogger("spanrelay")
_reported: set[tuple[Observer, str]] = set()


class Dropped:
    """In the place of a field that is left out."""


DROPPED = Dropped()


def _is_object(value: object) -> TypeGuard[dict[str, JSON]]:
    return isinstance(value, dict)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _is_anything(value: object) -> bool:
    return value is not None


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in cast("list[object]", value))


def _is_message(value: JSON) -> bool:
    return _is_object(value) and value.get("role") in names.ROLES and _is_list_of_objects(value.get("parts"))


def _is_exchange(value: object) -> bool:
    """Whether `value` is what the field `request` or `response` holds."""
    if not _is_object(value):
        return False
    messages = value.get("messages", [])
    return (
        isinstance(messages, list)
        and all(_is_message(message) for message in messages)
        and _is_list_of_objects(value.get("instructions", []))
        and _is_list_of_objects(value.get("tools", []))
        and _is_object(value.get("parameters", {}))
    )


def _is_error(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("type")) and _is_text(value.get("message"))


def _is_mark(value: object) -> bool:
    return _is_object(value) and _is_text(value.get("name")) and _is_object(value.get("attributes"))


def _is_pair(value: object) -> bool:
    return _is_object(value) and value.get("value") is not None


_FITS: dict[FieldName, Callable[[object], bool]] = {
    "request": _is_exchange,
    "response": _is_exchange,
    "arguments": _is_anything,
    "result": _is_anything,
    "input": _is_anything,
    "output": _is_anything,
    "mark": _is_mark,
    "metadata": _is_object,
    "error": _is_error,
    "resource": _is_object,
    "name": _is_text,
    "attribute": _is_pair,
}


class Sieve:
    """Puts the fields of one span through the sanitizers that see it."""

    __slots__ = ("_kind", "_span_name", "_watchers")

    def __init__(self, watchers: Watchers, span_name: str, kind: Kind | None) -> None:
        self._watchers = watchers
        self._span_name = span_name
        self._kind: Kind | None = kind

    def wants(self, field: FieldName) -> bool:
        """Whether any sanitizer is to see `field`."""
        return bool(self._watchers.chain(field, self._kind))

    def put(self, field: FieldName, value: JSON) -> JSON:
        """Return what is recorded for `value`, or `DROPPED`."""
        chain = self._watchers.chain(field, self._kind)
        if not chain or value is None:
            return value
        value = _json.loads(_json.dumps(value))
        for sanitizer in chain:
            try:
                value = sanitizer.function(Field(field, value, self._span_name, self._kind))
                if not _FITS[field](value):
                    raise TypeError(f"{type(value).__name__} is not such a field")
                # Plain JSON or nothing: an object that hides what its `repr` tells must not come this way.
                value = orjson.loads(orjson.dumps(value))
            except Exception as error:
                _report(sanitizer, field, error)
                return DROPPED
        return value

    def keep(self, field: FieldName, value: JSON) -> JSON:
        """As `put`, with None in place of `DROPPED`."""
        value = self.put(field, value)
        return None if value is DROPPED else value


def _report(sanitizer: Observer, field: str, error: Exception) -> None:
    """Count a field that is left out; what the sanitizer says of it may hold the very text it was to hide."""
    losses.add(f"fields left out because the sanitizer {sanitizer.name!r} failed")
    if (sanitizer, field) not in _reported:
        _reported.add((sanitizer, field))
        _log.warning(
            "sanitizer %r failed on %r with %s at %s; the field is left out",
            sanitizer.name,
            field,
            type(error).__name__,
            _place_of(error),
        )


def _place_of(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


# --- records of our own ------------------------------------------------------------------------------------


def finished(record: SpanRecord, watchers: Watchers) -> SpanRecord:
    """Return a copy of a complete record with what injectors add and sanitizers leave; `record` stays as it is."""
    result = copy.copy(record)
    try:
        if watchers.injectors:
            result.metadata = {**injected(copy.copy(record), watchers), **record.metadata}
        if watchers.sanitizers:
            _sanitize(result, Sieve(watchers, record.name, record.kind))
    except Exception as error:
        swallow("sanitizing a record", error)
        return _bare(record)
    return result


def _bare(record: SpanRecord) -> SpanRecord:
    """Return what of a record is no content."""
    return SpanRecord(
        record.trace_id,
        record.span_id,
        record.parent_id,
        record.remote_parent,
        record.kind or "span",
        record.kind,
        record.start,
        record.end,
        error=ErrorInfo("error") if record.error is not None else None,
        operation=record.operation,
        content=False,
    )


def _sanitize(record: SpanRecord, sieve: Sieve) -> None:
    if record.request is not None:
        record.request = _request(record.request, sieve)
    if record.response is not None:
        record.response = _response(record.response, sieve)
    if record.tool is not None:
        name = sieve.keep("name", record.tool.name) or "tool"
        record.tool = replace(record.tool, name=name, arguments=sieve.keep("arguments", record.tool.arguments))
    if record.agent is not None:
        record.agent = replace(record.agent, name=sieve.keep("name", record.agent.name))
    if record.result is not None:
        record.result = replace(record.result, content=sieve.keep("result", record.result.content))
    record.input, record.output = sieve.keep("input", record.input), sieve.keep("output", record.output)
    record.metadata = sieve.keep("metadata", record.metadata or None) or {}
    record.session_id = _identity(sieve, names.OI_SESSION, record.session_id)
    record.user_id = _identity(sieve, names.USER_ID, record.user_id)
    record.error = _error(record.error, sieve)
    record.marks = [mark for mark in (_mark(mark, sieve) for mark in record.marks) if mark is not None]
    record.name = _name(sieve, record.name, record.kind, record.operation)


def _request(request: ModelRequest, sieve: Sieve) -> ModelRequest:
    if not sieve.wants("request"):
        return request
    given: dict[str, JSON] = {"messages": write_messages(request.messages)}
    if request.system:
        given["instructions"] = write_parts(request.system)
    if request.tools:
        given["tools"] = [write_definition(tool) for tool in request.tools]
    if request.parameters:
        given["parameters"] = request.parameters
    value = sieve.put("request", given)
    value = {} if value is DROPPED else value
    scratch = SpanRecord(0, 0)
    return replace(
        request,
        messages=read_messages(value.get("messages", []), scratch),
        system=read_parts(value.get("instructions", []), scratch),
        tools=[read_definition(tool) for tool in value.get("tools", [])],
        parameters=value.get("parameters", {}),
    )


def _response(response: ModelResponse, sieve: Sieve) -> ModelResponse:
    error = _error(response.error, sieve)
    if not sieve.wants("response"):
        return response if error is response.error else replace(response, error=error)
    given: dict[str, JSON] = {"messages": write_messages(response.messages)}
    if response.parameters:
        given["parameters"] = response.parameters
    value = sieve.put("response", given)
    value = {} if value is DROPPED else value
    messages = read_messages(value.get("messages", []), SpanRecord(0, 0))
    return replace(response, messages=messages, parameters=value.get("parameters", {}), error=error)


def _identity(sieve: Sieve, key: str, value: str | None) -> str | None:
    pair = sieve.keep("attribute", {"key": key, "value": value}) if value else None
    return str(pair["value"]) if pair is not None else None


def _error(error: ErrorInfo | None, sieve: Sieve) -> ErrorInfo | None:
    """Return what is recorded of a failure; that there was one always is."""
    if error is None or not sieve.wants("error"):
        return error
    value = sieve.put("error", {"type": error.type, "message": error.message})
    if value is DROPPED:
        return ErrorInfo("error", status_code=error.status_code)
    return replace(error, type=value["type"], message=value["message"])


def _mark(mark: Mark, sieve: Sieve) -> Mark | None:
    attributes = _exception(mark.attributes, sieve) if mark.name == names.EXCEPTION_EVENT else mark.attributes
    value = sieve.put("mark", {"name": mark.name, "attributes": structure(attributes)})
    return None if value is DROPPED else Mark(value["name"], mark.time, value["attributes"])


def _exception(attributes: dict[str, JSON], sieve: Sieve) -> dict[str, JSON]:
    """Return the attributes of an exception's event, whose text is that of an error."""
    if not sieve.wants("error"):
        return attributes
    kind, message = attributes.get(names.EXCEPTION_TYPE), attributes.get(names.EXCEPTION_MESSAGE)
    value = sieve.put("error", {"type": str(kind or "error"), "message": str(message or "")})
    if value is not DROPPED and value["message"] == message:
        return attributes
    # The stack trace ends with the message.
    rest = {key: value for key, value in attributes.items() if not key.startswith("exception.")}
    if value is not DROPPED:
        rest.update({names.EXCEPTION_TYPE: value["type"], names.EXCEPTION_MESSAGE: value["message"]})
    return rest


def _name(sieve: Sieve, name: str, kind: Kind | None, operation: str | None = None) -> str:
    value = sieve.put("name", name)
    return (operation or kind or "span") if value is DROPPED else value


def sanitized_mark(mark: Mark, watchers: Watchers, span_name: str, kind: Kind | None) -> Mark | None:
    """Return what is recorded of a mark; None where it is left out."""
    return _mark(mark, Sieve(watchers, span_name, kind))


def sanitized_name(name: str, watchers: Watchers, kind: Kind | None) -> str:
    """Return what is recorded of a span's name."""
    return _name(Sieve(watchers, name, kind), name, kind)


def extra_attributes(items: Mapping[str, Any], watchers: Watchers, record: SpanRecord) -> dict[str, Any]:
    """Return what stays of the attributes that a span of ours has beside those of its record."""
    rest = {key: value for key, value in items.items() if key not in IDENTITY}
    return _attributes(rest, Sieve(watchers, record.name, record.kind), record.kind, {})


def sanitized_links(links: Iterable[Link], watchers: Watchers, record: SpanRecord) -> list[Link]:
    """Return the links of a span with their texts sanitized."""
    sieve = Sieve(watchers, record.name, record.kind)
    return [Link(link.context, _attributes(link.attributes or {}, sieve, record.kind, {})) for link in links]


def sanitized_status(status: Status, before: ErrorInfo | None, after: ErrorInfo | None) -> Status:
    """Return the status of a span whose error was `before` and is now recorded as `after`."""
    if not status.description or after is None:
        return status
    if before is not None and (before.type, before.message) == (after.type, after.message):
        return status
    return Status(status.status_code, after.message or after.type)


# --- resources ---------------------------------------------------------------------------------------------


def sanitized_resource(resource: Resource, watchers: Watchers) -> Resource:
    """Return what is recorded of what is running; made once for each resource."""
    known = watchers.resources.get(id(resource))
    if known is None:
        known = watchers.resources[id(resource)] = (resource, _resource(resource, watchers))
        watchers.resources[id(known[1])] = (known[1], known[1])
    return known[1]


def _resource(resource: Resource, watchers: Watchers) -> Resource:
    value = Sieve(watchers, "", None).put("resource", structure(resource.attributes))
    if not watchers.chain("resource", None):
        return resource
    return Resource({} if value is DROPPED else value, resource.schema_url)


# --- attributes --------------------------------------------------------------------------------------------

_PLAIN = frozenset(
    {
        names.OPERATION,
        names.PROVIDER,
        names.SYSTEM,
        names.REQUEST_MODEL,
        names.RESPONSE_MODEL,
        names.RESPONSE_ID,
        names.FINISH_REASONS,
        names.TOOL_CALL_ID,
        names.TOOL_TYPE,
        names.AGENT_ID,
        names.AGENT_VERSION,
        names.WORKFLOW_NAME,
        names.ERROR_TYPE,
        names.SERVER_ADDRESS,
        names.INCOMPLETE,
        names.OI_KIND,
        names.OI_MODEL,
        names.OI_REQUEST_MODEL,
        names.OI_RESPONSE_MODEL,
        names.OI_PROVIDER,
        names.OI_SYSTEM,
        names.OI_FINISH_REASON,
        names.OI_INPUT_MIME,
        names.OI_OUTPUT_MIME,
        names.OI_TOOL_ID,
        names.OI_EMBEDDING_MODEL,
        names.TL_KIND,
        names.TL_ENTITY_NAME,
        names.TL_WORKFLOW_NAME,
        names.TL_REQUEST_TYPE,
    }
)
"""Texts that name things and are never content."""

_FIELDS: dict[str, tuple[FieldName, str | None]] = {
    names.INPUT_MESSAGES: ("request", "messages"),
    names.ALL_MESSAGES: ("request", "messages"),
    names.SYSTEM_INSTRUCTIONS: ("request", "instructions"),
    names.TOOL_DEFINITIONS: ("request", "tools"),
    names.OUTPUT_MESSAGES: ("response", "messages"),
    names.TOOL_ARGUMENTS: ("arguments", None),
    names.TOOL_RESULT: ("result", None),
    names.OI_INPUT: ("input", None),
    names.OI_OUTPUT: ("output", None),
    names.TL_ENTITY_INPUT: ("input", None),
    names.TL_ENTITY_OUTPUT: ("output", None),
    names.OI_METADATA: ("metadata", None),
    names.AGENT_NAME: ("name", None),
    names.OI_AGENT_NAME: ("name", None),
    names.TOOL_NAME: ("name", None),
    names.OI_TOOL_NAME: ("name", None),
}
"""The field that an attribute holds, and the part of it."""

_TOOL_FIELDS: dict[str, FieldName] = {
    names.OI_INPUT: "arguments",
    names.OI_OUTPUT: "result",
    names.TL_ENTITY_INPUT: "arguments",
    names.TL_ENTITY_OUTPUT: "result",
}
"""What the same attributes hold on the span of a tool."""

_SPREAD: tuple[tuple[str, FieldName], ...] = (
    (f"{names.OI_INPUT_MESSAGES}.", "request"),
    (f"{names.OI_PROMPTS}.", "request"),
    (f"{names.TL_PROMPT}.", "request"),
    (f"{names.OI_OUTPUT_MESSAGES}.", "response"),
    (f"{names.OI_CHOICES}.", "response"),
    (f"{names.TL_COMPLETION}.", "response"),
)
"""Conversations that are spread over attributes, one for each text."""

_PLAIN_LEAVES = ("role", "name", "id", "type", "finish_reason", "mime_type", "tool_call_id")

_IDENTITY = {
    names.OI_SESSION: names.OI_SESSION,
    names.CONVERSATION_ID: names.OI_SESSION,
    names.USER_ID: names.USER_ID,
}
"""Attributes that say whose work it is, and the key under which sanitizers are shown them."""

_PARTS: dict[str, tuple[Callable[[Any, SpanRecord], list[Any]], Callable[[Any], Any]]] = {
    "messages": (read_messages, write_messages),
    "instructions": (read_instructions, write_parts),
    "tools": (read_definitions, lambda tools: [write_definition(tool) for tool in tools]),
}


def sanitized_attributes(
    items: Mapping[str, Any], watchers: Watchers, span_name: str, settled: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a span's attributes with every text that may be content sanitized; `settled` ones were before."""
    kind = kind_of(items)
    return _attributes(items, Sieve(watchers, span_name, kind), kind, settled)


def _attributes(
    items: Mapping[str, Any], sieve: Sieve, kind: Kind | None, settled: Mapping[str, Any]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in items.items():
        if value is None or isinstance(value, (bool, int, float)) or key in _PLAIN or settled.get(key) is value:
            result[key] = value
            continue
        changed = _attribute(key, value, sieve, kind)
        if changed is not DROPPED:
            result[key] = changed
    return result


def _attribute(key: str, value: Any, sieve: Sieve, kind: Kind | None) -> Any:
    field, part = _FIELDS.get(key, (None, None))
    if field is None:
        return _other_attribute(key, value, sieve)
    if kind == "tool":
        field = _TOOL_FIELDS.get(key, field)
    if not sieve.wants(field):
        return value
    if part is not None:
        return _conversation(field, part, value, sieve)
    changed = sieve.put(field, value if field == "name" else decode(value))
    return changed if changed is DROPPED else _like(value, changed)


def _other_attribute(key: str, value: Any, sieve: Sieve) -> Any:
    for prefix, field in _SPREAD:
        if key.startswith(prefix):
            if key.rpartition(".")[2] in _PLAIN_LEAVES:
                return value
            return _leaf(field, value, sieve) if isinstance(value, str) else _pair(key, value, sieve)
    return _pair(key, value, sieve)


def _pair(key: str, value: Any, sieve: Sieve) -> Any:
    if not sieve.wants("attribute"):
        return value
    changed = sieve.put("attribute", {"key": _IDENTITY.get(key, key), "value": decode(value)})
    return changed if changed is DROPPED else _like(value, changed["value"])


def _conversation(field: FieldName, part: str, value: Any, sieve: Sieve) -> Any:
    """Return the messages, instructions or tools of an attribute as sanitizers leave their normal form."""
    read, write = _PARTS[part]
    found = read(value, SpanRecord(0, 0))
    if not found:
        # Cut, or in a form nobody knows: it is shown as the text that it is.
        return _leaf(field, value, sieve) if isinstance(value, str) else DROPPED
    changed = sieve.put(field, {part: write(found)})
    if changed is DROPPED or part not in changed:
        return DROPPED
    return _like(value, changed[part])


def _leaf(field: FieldName, value: str, sieve: Sieve) -> Any:
    """Return one text of a conversation, shown to sanitizers as a message of its own."""
    role = "user" if field == "request" else "assistant"
    changed = sieve.put(field, {"messages": [{"role": role, "parts": [{"type": "text", "content": value}]}]})
    if changed is DROPPED:
        return DROPPED
    parts = [part for message in changed.get("messages", []) for part in message["parts"]]
    texts = [part["content"] for part in parts if isinstance(part.get("content"), str)]
    return "".join(texts) if texts else DROPPED


def _like(before: Any, value: JSON) -> Any:
    """Return `value` in the form in which the attribute held what was there before."""
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(before, (str, bytes)):
        return _json.dumps_text(value)
    return tuple(value) if isinstance(value, list) else value


# --- spans of other instrumentation ------------------------------------------------------------------------


class LiveSpan:
    """A span that is ending, while every processor can still be shown something else than what was put there."""

    __slots__ = ("_settled", "_span", "_watchers")

    def __init__(self, span: Span, watchers: Watchers, settled: Mapping[str, Any]) -> None:
        self._span, self._watchers, self._settled = span, watchers, settled

    def finish(self) -> None:
        """Add what injectors say, and sanitize everything readable in place. Never raises."""
        try:
            with apart():
                self._inject()
                if self._watchers.sanitizers:
                    self._sanitize()
        except Exception as error:
            swallow("sanitizing a span", error)
            self._strip()

    @property
    def _items(self) -> dict[str, Any]:
        # The SDK has frozen the attributes by now; its own dict is the only place that every processor will read.
        return cast("Any", self._span._attributes)._dict

    def _inject(self) -> None:
        if not self._watchers.injectors:
            return
        from spanrelay.semconv.spans import record_of

        for key, value in injected(record_of(self._span), self._watchers).items():
            self._items.setdefault(key, value)

    def _sanitize(self) -> None:
        span, items = self._span, self._items
        kind = kind_of(items)
        sieve = Sieve(self._watchers, span._name, kind)
        kept = _attributes(items, sieve, kind, self._settled)
        marks = [_event(event, sieve) for event in span._events]
        links = [Link(link.context, _attributes(link.attributes or {}, sieve, kind, {})) for link in span._links]
        items.clear()
        items.update(kept)
        span._events = _bounded(span._events, [mark for mark in marks if mark is not None])
        span._links = _bounded(span._links, links)
        span._status = self._status(sieve)
        span._resource = sanitized_resource(span._resource, self._watchers)
        span._name = _name(sieve, span._name, kind)

    def _status(self, sieve: Sieve) -> Status:
        status = self._span._status
        if not status.description:
            return status
        before = ErrorInfo(str(self._items.get(names.ERROR_TYPE) or "error"), status.description)
        return sanitized_status(status, before, _error(before, sieve))

    def _strip(self) -> None:
        """Leave only figures and names of things."""
        span = self._span
        for key, value in list(self._items.items()):
            if not isinstance(value, (bool, int, float)) and key not in _PLAIN:
                del self._items[key]
        span._events, span._links = _bounded(span._events, []), _bounded(span._links, [])
        span._status = Status(span._status.status_code)
        span._name = kind_of(self._items) or "span"


def _event(event: Event, sieve: Sieve) -> Event | None:
    mark = _mark(Mark(event.name, event.timestamp, dict(event.attributes or {})), sieve)
    return None if mark is None else Event(mark.name, mark.attributes, mark.time)


def _bounded(before: Any, items: list[Any]) -> Any:
    """Return `items` as the SDK's own list, with its count of what was dropped."""
    made = copy.copy(before)
    if not hasattr(made, "_dq"):
        return items
    made._dq = type(before._dq)(items, before._dq.maxlen)
    return made


def settle_identity(span: Span, watchers: Watchers) -> dict[str, Any]:
    """Sanitize in place what a starting span says of session, user, metadata and names, and return those values."""
    items: dict[str, Any] = cast("Any", span._attributes)._dict
    found = [key for key in items if key in IDENTITY]
    kind = kind_of(items)
    sieve = Sieve(watchers, span._name, kind)
    settled: dict[str, Any] = {}
    with apart():
        for key in found:
            value = _attribute(key, items.pop(key), sieve, kind)
            if value is not DROPPED:
                items[key] = settled[key] = value
    return settled


IDENTITY = frozenset(
    (*_IDENTITY, names.OI_METADATA, names.AGENT_NAME, names.OI_AGENT_NAME, names.TOOL_NAME, names.OI_TOOL_NAME)
)
"""The attributes that `settle_identity` is about."""


# --- providers that are not adopted ------------------------------------------------------------------------


def finish_elsewhere(recorded: Recorded) -> SpanRecord:
    """Return a complete record as observers leave it, where no processor of ours stands in front of the others."""
    watchers = watching(recorded.scope)
    if watchers is None:
        return recorded.record
    with apart():
        return finished(recorded.record, watchers)
