"""What stands around the attributes of spans, log records and metrics: resource, instrumentation scope, trace state.

Few of them serve many spans, so what is made of one is kept; nothing is changed in place, since tracers hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceState

from spanrelay._masking import mask_text, masked_mapping

T = TypeVar("T")

_SCHEMAS = "https://opentelemetry.io/schemas/"


class Once:
    """What was made of few things, by their identity: made once, and kept with them."""

    __slots__ = ("_made",)

    LIMIT = 256

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}

    def made(self, thing: T, make: Callable[[T], T]) -> T:
        """Return what `make` makes of `thing`, or of what was made of another thing, that thing itself."""
        known = self._made.get(id(thing))
        if known is None:
            if len(self._made) >= self.LIMIT:
                self._made.clear()
            known = self._made[id(thing)] = (thing, make(thing))
            self._made[id(known[1])] = (known[1], known[1])
        return known[1]


_masked = Once()


def masked_resource(resource: Resource) -> Resource:
    """Return `resource` without credentials; the same object where it has none."""
    return _masked.made(resource, _masked_resource)


def masked_scope(scope: InstrumentationScope) -> InstrumentationScope:
    """Return `scope` without credentials; the same object where it has none."""
    return _masked.made(scope, _masked_scope)


_origins: dict[int, tuple[Resource, InstrumentationScope | None, Resource, InstrumentationScope | None]] = {}


def masked_origin(
    resource: Resource, scope: InstrumentationScope | None
) -> tuple[Resource, InstrumentationScope | None]:
    """Return what a span comes from without credentials, as `masked_resource` and `masked_scope` do, by one look-up."""
    known = _origins.get(id(scope))
    if known is None or known[0] is not resource or known[1] is not scope:
        if len(_origins) >= Once.LIMIT:
            _origins.clear()
        masked = None if scope is None else masked_scope(scope)
        known = _origins[id(scope)] = (resource, scope, masked_resource(resource), masked)
    return known[2], known[3]


def _masked_resource(resource: Resource) -> Resource:
    attributes, schema = masked_mapping(resource.attributes), mask_text(resource.schema_url)
    unchanged = attributes is resource.attributes and schema is resource.schema_url
    return resource if unchanged else Resource(attributes, schema)


def _masked_scope(scope: InstrumentationScope) -> InstrumentationScope:
    given = scope.attributes or {}
    parts = [mask_text(part) if part else part for part in (scope.name, scope.version, scope.schema_url)]
    attributes = masked_mapping(given)
    if attributes is given and parts == [scope.name, scope.version, scope.schema_url]:
        return scope
    return InstrumentationScope(parts[0] or "", parts[1], parts[2], attributes)


def masked_context(context: SpanContext) -> SpanContext:
    """Return `context` without the entries of its trace state that hold credentials."""
    return context if not context.trace_state else without_entries(context, _is_masked)


def _is_masked(key: str, value: str) -> bool:
    return mask_text(key) is not key or mask_text(value) is not value


def without_entries(context: SpanContext, is_left_out: Callable[[str, str], bool]) -> SpanContext:
    """Return `context` without some entries of its trace state: what stands there has a form that no mask fits."""
    entries = list(context.trace_state.items())
    kept = [entry for entry in entries if not is_left_out(*entry)]
    if len(kept) == len(entries):
        return context
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(kept))


def is_published(schema: str) -> bool:
    """Whether a schema's URL is one of OpenTelemetry's own, which says nothing of anybody."""
    return schema.startswith(_SCHEMAS)
