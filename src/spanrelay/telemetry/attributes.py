"""What sanitizers make of attributes, in whatever convention they are, and of spans of other instrumentation.

Such a span is changed in place before any other processor reads its end; what no sanitizer was shown is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from opentelemetry.sdk.trace import Event, Span
from opentelemetry.trace import Link, Status

from spanrelay import _json
from spanrelay._guard import swallow
from spanrelay._masking import next_name
from spanrelay.observation.bounds import bounded
from spanrelay.observation.injecting import injected
from spanrelay.observation.observers import FieldName, Watchers, apart
from spanrelay.observation.sanitizing import sanitized_context, sanitized_resource, sanitized_scope, sanitized_status
from spanrelay.observation.sieve import DROPPED, Sieve, put_error, put_mark, put_name
from spanrelay.records import JSON, ErrorInfo, Kind, Mark, SpanRecord
from spanrelay.semconv import kind_of, names
from spanrelay.semconv.messages import (
    read_definitions,
    read_instructions,
    read_messages,
    write_definition,
    write_messages,
    write_parts,
)
from spanrelay.semconv.spans import record_of
from spanrelay.semconv.values import decode, readable

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
    names.TOOL_ANNOTATION: ("result", None),
    names.OI_INPUT: ("input", None),
    names.OI_OUTPUT: ("output", None),
    names.TL_ENTITY_INPUT: ("input", None),
    names.TL_ENTITY_OUTPUT: ("output", None),
    names.RETRIEVAL_QUERY: ("input", None),
    names.RETRIEVAL_DOCUMENTS: ("output", None),
    names.EVALUATION_EXPLANATION: ("output", None),
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
    (names.OI_PROMPT_TEMPLATE, "request"),
    (names.OI_PROMPT_VARIABLES, "request"),
    (f"{names.TL_PROMPT}.", "request"),
    (f"{names.OI_OUTPUT_MESSAGES}.", "response"),
    (f"{names.OI_CHOICES}.", "response"),
    (f"{names.TL_COMPLETION}.", "response"),
)
"""Conversations that are spread over attributes, one for each text."""

_SPREAD_PREFIXES = tuple(prefix for prefix, _ in _SPREAD)

_PLAIN_LEAVES = ("role", "name", "id", "type", "finish_reason", "mime_type", "tool_call_id")

_TIES = frozenset((names.TOOL_CALL_ID, names.OI_TOOL_ID))
"""What ties a tool's result to the model's call; no sanitizer is given it."""

_LONG = 10**6
"""Numbers from here on are shown to sanitizers: those of a telephone, of a person or of a card."""

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
    items: Mapping[str, Any],
    watchers: Watchers,
    span_name: str,
    settled: Mapping[str, Any],
    kind: Kind | None = None,
) -> dict[str, Any]:
    """Return a span's attributes with every text that may be content sanitized.

    Those that are `settled` were before. The kind is the one that they tell where none is given.
    """
    kind = kind or kind_of(items)
    return _attributes(items, Sieve(watchers, span_name, kind), kind, settled)


def _attributes(
    items: Mapping[str, Any], sieve: Sieve, kind: Kind | None, settled: Mapping[str, Any]
) -> dict[str, Any]:
    identifiers = sieve.identify({key: _decoded(value) for key, value in items.items() if _identifies(key, value)})
    result: dict[str, Any] = {}
    for key, value in items.items():
        if key in identifiers:
            said = identifiers[key]
            pair = sieve.rename(key), DROPPED if said is None else _like(value, said)
        elif key in settled and settled[key] is value:
            pair = key, value
        else:
            pair = _attribute(key, value, sieve, kind)
        if pair[0] is not None and pair[1] is not DROPPED:
            result[pair[0] if pair[0] not in result else next_name(pair[0], result)] = pair[1]
    return result


def _decoded(value: Any) -> JSON:
    return decode(value) if isinstance(value, str) else readable(value)


def _identifies(key: str, value: Any) -> bool:
    if key in _PLAIN:
        return key not in _TIES and isinstance(value, (str, tuple, list))
    return isinstance(value, str) and key.rpartition(".")[2] in _PLAIN_LEAVES and key.startswith(_SPREAD_PREFIXES)


_Pair = tuple[str | None, Any]
"""The key and the value that are recorded; the one None, or the other `DROPPED`, where the attribute is left out."""


def _attribute(key: str, value: Any, sieve: Sieve, kind: Kind | None) -> _Pair:
    field, part = _FIELDS.get(key, (None, None))
    if isinstance(value, (bool, int, float)):
        return _figure(key, value, sieve)
    if value is None or key in _TIES:
        return key, value
    if field is None:
        return _other_attribute(key, value, sieve)
    if kind == "tool":
        field = _TOOL_FIELDS.get(key, field)
    if not sieve.wants(field):
        return key, value
    if part is not None:
        return key, _conversation(field, part, value, sieve)
    changed = sieve.put(field, value if field == "name" else _decoded(value))
    return key, changed if changed is DROPPED else _like(value, changed)


def _figure(key: str, value: float, sieve: Sieve) -> _Pair:
    """Return what is recorded of an attribute that is no text: the number of a card may be a number."""
    if value < _LONG or not math.isfinite(value) or value != int(value) or key in names.KNOWN:
        return sieve.rename(key), value
    given = str(int(value))
    left: dict[str, JSON] = sieve.keep("identifiers", {key: given}) or {}
    new_key, text = next(iter(left.items()), (None, None))
    return new_key, value if text == given else text


def _other_attribute(key: str, value: Any, sieve: Sieve) -> _Pair:
    for prefix, field in _SPREAD:
        if key.startswith(prefix):
            if not isinstance(value, str):
                return _pair(key, value, sieve)
            return sieve.rename(key), _leaf(field, value, sieve) if sieve.wants(field) else value
    return _pair(key, value, sieve)


def _pair(key: str, value: Any, sieve: Sieve) -> _Pair:
    if not sieve.wants("attribute"):
        return key, value
    shown = _IDENTITY.get(key, key)
    changed = sieve.put("attribute", {"key": shown, "value": _decoded(value)})
    if changed is DROPPED:
        return key, DROPPED
    new_key = changed.get("key", shown)
    return key if new_key == shown else str(new_key), _like(value, changed["value"])


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


def extra_attributes(items: Mapping[str, Any], watchers: Watchers, record: SpanRecord) -> dict[str, Any]:
    """Return what stays of the attributes that a span of ours has beside those of its record."""
    rest = {key: value for key, value in items.items() if key not in IDENTITY}
    return _attributes(rest, Sieve(watchers, record.name, record.kind), record.kind, {})


def sanitized_links(links: Iterable[Link], watchers: Watchers, record: SpanRecord) -> list[Link]:
    """Return the links of a span with their texts sanitized."""
    sieve = Sieve(watchers, record.name, record.kind)
    return [_link(link, sieve, record.kind, watchers) for link in links]


def _link(link: Link, sieve: Sieve, kind: Kind | None, watchers: Watchers) -> Link:
    attributes = _attributes(link.attributes or {}, sieve, kind, {})
    return Link(sanitized_context(link.context, watchers), attributes)


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
            self._strip()
            swallow("sanitizing a span", error)

    @property
    def _items(self) -> dict[str, Any]:
        # The SDK has frozen the attributes by now; its own dict is the only place that every processor will read.
        return cast("Any", self._span._attributes)._dict

    def _inject(self) -> None:
        if not self._watchers.injectors:
            return
        for key, value in injected(record_of(self._span), self._watchers).items():
            self._items.setdefault(key, value)

    def _sanitize(self) -> None:
        span, items = self._span, self._items
        kind = kind_of(items)
        sieve = Sieve(self._watchers, span._name, kind)
        kept = _attributes(items, sieve, kind, self._settled)
        marks = [_event(event, sieve) for event in span._events]
        links = [_link(link, sieve, kind, self._watchers) for link in span._links]
        items.clear()
        items.update(kept)
        span._events = bounded(span._events, [mark for mark in marks if mark is not None])
        span._links = bounded(span._links, links)
        span._status = self._status(sieve)
        span._resource = sanitized_resource(span._resource, self._watchers)
        if span._instrumentation_scope is not None:
            span._instrumentation_scope = sanitized_scope(span._instrumentation_scope, self._watchers)
        span._name = put_name(sieve, span._name, kind)

    def _status(self, sieve: Sieve) -> Status:
        status = self._span._status
        if not status.description:
            return status
        before = ErrorInfo(str(self._items.get(names.ERROR_TYPE) or "error"), status.description)
        return sanitized_status(status, before, put_error(before, sieve))

    def _strip(self) -> None:
        """Leave only figures and names of things."""
        span = self._span
        for key, value in list(self._items.items()):
            if not isinstance(value, (bool, int, float)) and key not in _PLAIN:
                del self._items[key]
        span._events, span._links = bounded(span._events, []), bounded(span._links, [])
        span._status = Status(span._status.status_code)
        span._name = kind_of(self._items) or "span"


def _event(event: Event, sieve: Sieve) -> Event | None:
    mark = put_mark(Mark(event.name, event.timestamp, dict(event.attributes or {})), sieve)
    return None if mark is None else Event(mark.name, mark.attributes, mark.time)


def settle_identity(span: Span, watchers: Watchers) -> dict[str, Any]:
    """Sanitize in place what a starting span says of session, user, metadata and names, and return those values."""
    items: dict[str, Any] = cast("Any", span._attributes)._dict
    found = [key for key in items if key in IDENTITY]
    kind = kind_of(items)
    sieve = Sieve(watchers, span._name, kind)
    settled: dict[str, Any] = {}
    with apart():
        for key in found:
            _, value = _attribute(key, items.pop(key), sieve, kind)
            if value is not DROPPED:
                items[key] = settled[key] = value
    return settled


IDENTITY = frozenset(
    (*_IDENTITY, names.OI_METADATA, names.AGENT_NAME, names.OI_AGENT_NAME, names.TOOL_NAME, names.OI_TOOL_NAME)
)
"""The attributes that `settle_identity` is about."""
