"""What others may read of metrics: the attributes of each measurement before it is added up, the rest when collected.

Two that become alike are added up as one by the SDK itself, so that no series is told twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics

from spanrelay._guard import guarded, losses
from spanrelay._masking import mask_text, masked_mapping
from spanrelay.observation.observers import Watchers, apart, observation, sanitizing, watching_here
from spanrelay.observation.surroundings import masked_resource, masked_scope

_OWN = "spanrelay"


def hide(measurement: Any) -> bool:
    """Make the attributes of a measurement fit for others to read, in place; False where that cannot be done."""
    if not measurement.attributes:
        return True
    with guarded("masking measurements"):
        attributes = measurement.attributes
        if sanitizing.value and not _is_ours(measurement):
            losses.add("data points left out because a sanitizer measured them")
            return False
        watchers = _watchers()
        # What we measure is read from records that are sanitized already.
        if watchers is not None and not _is_ours(measurement):
            with apart():
                attributes = _sanitized(attributes, watchers)
        attributes = masked_mapping(attributes)
        if attributes is not measurement.attributes:
            object.__setattr__(measurement, "attributes", attributes)
        return True
    return False


def _watchers() -> Watchers | None:
    watchers = watching_here() if observation.active else None
    return watchers if watchers is not None and watchers.sanitizers else None


def _is_ours(measurement: Any) -> bool:
    return measurement.instrument.instrumentation_scope.name.startswith(_OWN)


_KEPT = 4096


def _sanitized(attributes: Any, watchers: Watchers) -> dict[str, Any]:
    """Return attributes as sanitizers leave them, each once for each value: a program measures the same ever again."""
    from spanrelay.telemetry.attributes import sanitized_attributes  # not small, and few programs have sanitizers

    result: dict[str, Any] = {}
    for name, value in attributes.items():
        token = name, type(value), repr(value)  # a list is no key, and 1 is True
        known = watchers.measured.get(token)
        if known is None:
            if len(watchers.measured) >= _KEPT:
                watchers.measured.clear()
            known = watchers.measured[token] = sanitized_attributes({name: value}, watchers, "", {})
        result.update(known)
    return result


def shown(data: MetricsData | None) -> MetricsData | None:
    """Return what was collected as others may read it; None where that cannot be made."""
    if data is None:
        return None
    watchers = _watchers()  # within `apart` the scope is nobody's
    with guarded("masking metrics"), apart():
        return replace(data, resource_metrics=[_of_resource(each, watchers) for each in data.resource_metrics])
    return None


def _of_resource(given: ResourceMetrics, watchers: Watchers | None) -> ResourceMetrics:
    resource = given.resource
    if watchers is not None:
        from spanrelay.observation.sanitizing import sanitized_resource

        resource = sanitized_resource(resource, watchers)
    resource = masked_resource(resource)
    scopes = [_of_scope(each, watchers) for each in given.scope_metrics]
    return replace(given, resource=resource, scope_metrics=scopes, schema_url=resource.schema_url)


def _of_scope(given: ScopeMetrics, watchers: Watchers | None) -> ScopeMetrics:
    scope = given.scope
    if watchers is not None:
        from spanrelay.observation.sanitizing import sanitized_scope

        scope = sanitized_scope(scope, watchers)
    scope = masked_scope(scope)
    metrics = [_of_metric(each, watchers) for each in given.metrics]
    return replace(given, scope=scope, metrics=metrics, schema_url=scope.schema_url or "")


def _of_metric(given: Metric, watchers: Watchers | None) -> Metric:
    texts = {"name": given.name, "description": given.description, "unit": given.unit}
    if watchers is not None:
        from spanrelay.observation.sieve import Sieve

        texts = Sieve(watchers, "", None).identify(texts)
    name, description, unit = (mask_text(text or "") for text in texts.values())
    points: Any = [_of_point(point) for point in given.data.data_points]
    return replace(
        given, name=name or "removed", description=description, unit=unit, data=replace(given.data, data_points=points)
    )


def _of_point(point: Any) -> Any:
    """Mask once more: what was measured before anybody stood here is still added up."""
    exemplars: Sequence[Any] = [
        replace(each, filtered_attributes=masked_mapping(each.filtered_attributes or {})) for each in point.exemplars
    ]
    return replace(point, attributes=masked_mapping(point.attributes or {}), exemplars=exemplars)
