"""What sanitizers and injectors make of a record, and sanitizers of a resource.

The record that was made at the call stays as it is: the application may hold parts of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status

from spanrelay._guard import swallow
from spanrelay.conversation import Conversation
from spanrelay.observation.injecting import injected
from spanrelay.observation.observers import Watchers, apart, watching, watching_here
from spanrelay.observation.sieve import DROPPED, Dropped, Sieve, put_error, put_mark, put_name
from spanrelay.observation.surroundings import is_published, without_entries
from spanrelay.records import (
    JSON,
    ErrorInfo,
    Kind,
    Mark,
    Message,
    ModelRequest,
    ModelResponse,
    PromptCache,
    PromptTemplate,
    SpanRecord,
)
from spanrelay.semconv import names
from spanrelay.semconv.messages import (
    read_definition,
    read_messages,
    read_parts,
    write_definition,
    write_messages,
    write_parts,
)
from spanrelay.semconv.values import readable
from spanrelay.tracing import Recorded


def finished(record: SpanRecord, watchers: Watchers) -> SpanRecord:
    """Return a copy of a complete record with what injectors add and sanitizers leave; `record` stays as it is."""
    result = copy.copy(record)
    try:
        if watchers.injectors:
            result.metadata = {**injected(copy.copy(record), watchers), **record.metadata}
        if watchers.sanitizers:
            _sanitize(result, Sieve(watchers, record.name, record.kind))
            result.attempts = tuple([finished(each, watchers) for each in record.attempts])
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
        described = _said(sieve, names.TOOL_DESCRIPTION, record.tool.description)
        arguments = sieve.keep("arguments", record.tool.arguments)
        record.tool = replace(record.tool, name=name, arguments=arguments, description=described)
    if record.agent is not None:
        described = _said(sieve, names.AGENT_DESCRIPTION, record.agent.description)
        record.agent = replace(record.agent, name=sieve.keep("name", record.agent.name), description=described)
    if record.result is not None:
        result = record.result
        record.result = replace(result, content=sieve.keep("result", result.content))
        if result.annotation is not None:
            record.result.annotation = sieve.keep("result", result.annotation)
    _identify(record, sieve)
    record.input, record.output = sieve.keep("input", record.input), sieve.keep("output", record.output)
    record.metadata = sieve.keep("metadata", record.metadata or None) or {}
    record.session_id = _said(sieve, names.OI_SESSION, record.session_id)
    record.user_id = _said(sieve, names.USER_ID, record.user_id)
    record.error = put_error(record.error, sieve)
    record.would_refuse = _verdicts(record.would_refuse, sieve)
    record.would_change = _verdicts(record.would_change, sieve)
    if record.prompt_cache is not None:
        record.prompt_cache = _prompt_cache(record.prompt_cache, sieve)
    if record.response_cache is not None:
        reason = _said(sieve, names.RESPONSE_CACHE_REASON, record.response_cache.reason)
        record.response_cache = replace(record.response_cache, reason=reason)
    record.marks = [mark for mark in (put_mark(mark, sieve) for mark in record.marks) if mark is not None]
    record.name = put_name(sieve, record.name, record.kind, record.operation)


def _request(request: ModelRequest, sieve: Sieve) -> ModelRequest:
    if not sieve.wants("request"):
        return request
    messages = _known(request.messages, sieve)
    if messages is DROPPED:
        return replace(request, messages=[], system=[], tools=[], parameters={}, prompt=None)
    given: dict[str, JSON] = {"messages": write_messages(request.messages) if messages is None else []}
    if request.system:
        given["instructions"] = write_parts(request.system)
    if request.tools:
        given["tools"] = [write_definition(tool) for tool in request.tools]
    if request.parameters:
        given["parameters"] = request.parameters
    if request.prompt is not None:
        given["prompt"] = {"template": request.prompt.template, "variables": request.prompt.variables}
    value = sieve.put("request", given)
    value = {} if value is DROPPED else value
    scratch = SpanRecord(0, 0)
    return replace(
        request,
        messages=read_messages(value.get("messages", []), scratch) if messages is None or not value else messages,
        system=read_parts(value.get("instructions", []), scratch),
        tools=[read_definition(tool) for tool in value.get("tools", [])],
        parameters=value.get("parameters", {}),
        prompt=PromptTemplate(**value["prompt"]) if value.get("prompt") else None,
    )


def _known(messages: list[Message], sieve: Sieve) -> Conversation | Dropped | None:
    """Return what sanitizers leave of messages, of which only those that they have not seen yet are put to them.

    None where the field has to be put as a whole.
    """
    steady = sieve.steady("request") if type(messages) is Conversation else None
    if steady is None:
        return None

    def change(new: list[Message]) -> list[Message] | None:
        value = sieve.put("request", {"messages": write_messages(new)})
        return None if value is DROPPED else read_messages(value.get("messages", []), SpanRecord(0, 0))

    left = cast("Conversation", messages).through(steady, change)
    return DROPPED if left is None else left


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


def _identify(record: SpanRecord, sieve: Sieve) -> None:
    """Put the names and ids of what took part through the sieve, all at once."""
    if not sieve.wants("identifiers"):
        return
    request, response, agent, tool = record.request, record.response, record.agent, record.tool
    given: dict[str, JSON] = {
        names.OPERATION: record.operation,
        names.PROVIDER: record.provider,
        names.SERVER_ADDRESS: record.server_address,
        names.ANSWERED_BY: record.answered_by,
        names.REQUEST_MODEL: request and request.model,
        names.RESPONSE_MODEL: response and response.model,
        names.RESPONSE_ID: response and response.id,
        names.FINISH_REASONS: response and response.finish_reasons,
        names.AGENT_ID: agent and agent.id,
        names.AGENT_VERSION: agent and agent.version,
        names.TOOL_TYPE: tool and tool.type,
    }
    left = sieve.identify(given)
    record.operation, record.provider = left[names.OPERATION], left[names.PROVIDER]
    record.server_address, record.answered_by = left[names.SERVER_ADDRESS], left[names.ANSWERED_BY]
    if request is not None:
        record.request = replace(request, model=left[names.REQUEST_MODEL])
    if response is not None:
        record.response = replace(
            response,
            id=left[names.RESPONSE_ID],
            model=left[names.RESPONSE_MODEL],
            finish_reasons=left[names.FINISH_REASONS] or [],
        )
    if agent is not None:
        record.agent = replace(agent, id=left[names.AGENT_ID], version=left[names.AGENT_VERSION])
    if tool is not None:
        record.tool = replace(tool, type=left[names.TOOL_TYPE])


def _verdicts(verdicts: tuple[str, ...], sieve: Sieve) -> tuple[str, ...]:
    """Put what policy on trial said through the sieve, as the error that it would have been; their number stays."""
    said = (sieve.keep("error", {"type": "GuardrailRejected", "message": verdict}) for verdict in verdicts)
    return tuple(str(each["message"]) if each is not None else "policy" for each in said)


def _prompt_cache(told: PromptCache, sieve: Sieve) -> PromptCache:
    """Put what a span says of a prompt cache through the sieve: ours says nothing that is anybody's, others might."""
    marks = (_said(sieve, names.PROMPT_CACHE_MARKS, mark) for mark in told.marks)
    return replace(
        told,
        scaffold=_said(sieve, names.PROMPT_CACHE_SCAFFOLD, told.scaffold),
        marks=tuple(mark for mark in marks if mark is not None),
        missed=_said(sieve, names.PROMPT_CACHE_MISSED, told.missed),
        skipped=_said(sieve, names.PROMPT_CACHE_SKIPPED, told.skipped),
    )


def _said(sieve: Sieve, key: str, value: str | None) -> str | None:
    pair = sieve.keep("attribute", {"key": key, "value": value}) if value else None
    return str(pair["value"]) if pair is not None else None


def words_of(error: BaseException) -> str | None:
    """Return what our own log may tell of an error's words; None where no sanitizer has changed them."""
    watchers = watching_here()
    if watchers is None or not watchers.sanitizers:
        return None
    given = _in_words(error)
    with apart():
        said = put_error(ErrorInfo(type(error).__qualname__, given), Sieve(watchers, "", None))
    return None if said is None or said.message == given else said.message


def _in_words(error: BaseException) -> str:
    """Return all that a traceback says of one exception: its text, its notes, the texts of those in its group."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    words = (str(error), *getattr(error, "__notes__", ()), *map(_in_words, inner))
    return "\n".join(str(each) for each in words)


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
    return watchers.surroundings.made(resource, lambda resource: _resource(resource, watchers))


def sanitized_scope(scope: InstrumentationScope, watchers: Watchers) -> InstrumentationScope:
    """Return what is recorded of the instrumentation that tells; made once for each scope."""
    return watchers.surroundings.made(scope, lambda scope: _scope(scope, watchers))


def sanitized_context(context: SpanContext, watchers: Watchers) -> SpanContext:
    """Return `context` without the entries of its trace state that sanitizers would change."""
    if not context.trace_state:
        return context
    sieve = Sieve(watchers, "", None)

    def is_changed(key: str, value: str) -> bool:
        pair = {"key": key, "value": value}
        left = sieve.put("attribute", pair)
        return left is DROPPED or {**pair, **left} != pair

    with apart():
        return without_entries(context, is_changed)


def _resource(resource: Resource, watchers: Watchers) -> Resource:
    sieve = Sieve(watchers, "", None)
    attributes, schema = _attributes_of(resource, sieve), _schema(resource.schema_url, sieve)
    same = attributes is resource.attributes and schema == resource.schema_url
    return resource if same else Resource(attributes, schema)


def _scope(scope: InstrumentationScope, watchers: Watchers) -> InstrumentationScope:
    sieve = Sieve(watchers, "", None)
    given = {names.SCOPE_NAME: scope.name, names.SCOPE_VERSION: scope.version}
    left = sieve.identify(given)
    attributes, schema = _attributes_of(scope, sieve), _schema(scope.schema_url, sieve)
    if left == given and schema == scope.schema_url and attributes is scope.attributes:
        return scope
    return InstrumentationScope(left[names.SCOPE_NAME] or "removed", left[names.SCOPE_VERSION], schema, attributes)


def _attributes_of(thing: Resource | InstrumentationScope, sieve: Sieve) -> Mapping[str, Any]:
    if not thing.attributes or not sieve.wants("resource"):
        return thing.attributes or {}
    value = sieve.put("resource", readable(thing.attributes))
    return {} if value is DROPPED else value


def _schema(url: str | None, sieve: Sieve) -> str:
    if not url or is_published(url):
        return url or ""
    return str(sieve.identify({"schema_url": url})["schema_url"] or "")
