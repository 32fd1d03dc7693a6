"""What sanitizers and injectors make of a record, and sanitizers of a resource.

The record that was made at the call stays as it is: the application may hold parts of it.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Status

from spanrelay._guard import swallow
from spanrelay.records import JSON, ErrorInfo, Kind, Mark, ModelRequest, ModelResponse, SpanRecord
from spanrelay.semconv import names
from spanrelay.semconv.messages import (
    read_definition,
    read_messages,
    read_parts,
    write_definition,
    write_messages,
    write_parts,
)
from spanrelay.semconv.values import structure
from spanrelay.telemetry.injecting import injected
from spanrelay.telemetry.observers import Watchers, apart, watching
from spanrelay.telemetry.sieve import DROPPED, Sieve, put_error, put_mark, put_name
from spanrelay.tracing import Recorded


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
        if sieve.wants("request") or sieve.wants("response"):
            record.response = replace(record.response, tokens=None)  # the same words once more, as numbers
    if record.tool is not None:
        name = sieve.keep("name", record.tool.name) or "tool"
        record.tool = replace(record.tool, name=name, arguments=sieve.keep("arguments", record.tool.arguments))
    if record.agent is not None:
        record.agent = replace(record.agent, name=sieve.keep("name", record.agent.name))
    if record.result is not None:
        result = record.result
        record.result = replace(result, content=sieve.keep("result", result.content))
        if result.annotation is not None:
            record.result.annotation = sieve.keep("result", result.annotation)
    record.input, record.output = sieve.keep("input", record.input), sieve.keep("output", record.output)
    record.metadata = sieve.keep("metadata", record.metadata or None) or {}
    record.session_id = _identity(sieve, names.OI_SESSION, record.session_id)
    record.user_id = _identity(sieve, names.USER_ID, record.user_id)
    record.error = put_error(record.error, sieve)
    record.marks = [mark for mark in (put_mark(mark, sieve) for mark in record.marks) if mark is not None]
    record.name = put_name(sieve, record.name, record.kind, record.operation)


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
    error = put_error(response.error, sieve)
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


def sanitized_mark(mark: Mark, watchers: Watchers, span_name: str, kind: Kind | None) -> Mark | None:
    """Return what is recorded of a mark; None where it is left out."""
    return put_mark(mark, Sieve(watchers, span_name, kind))


def sanitized_name(name: str, watchers: Watchers, kind: Kind | None) -> str:
    """Return what is recorded of a span's name."""
    return put_name(Sieve(watchers, name, kind), name, kind)


def sanitized_status(status: Status, before: ErrorInfo | None, after: ErrorInfo | None) -> Status:
    """Return the status of a span whose error was `before` and is now recorded as `after`."""
    if not status.description or after is None:
        return status
    if before is not None and (before.type, before.message) == (after.type, after.message):
        return status
    return Status(status.status_code, after.message or after.type)


def finish_elsewhere(recorded: Recorded) -> SpanRecord:
    """Return a complete record as observers leave it, where no processor of ours stands in front of the others."""
    watchers = watching(recorded.scope)
    if watchers is None:
        return recorded.record
    with apart():
        return finished(recorded.record, watchers)


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
