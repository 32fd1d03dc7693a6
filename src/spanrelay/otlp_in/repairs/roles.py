"""Roles given back to requests that are recorded as texts run together, by what is known of their conversation.

A request that begins as the one before and its answer did has their messages, and what follows are the results of the
calls in that answer and a user's words. Of a request that nothing is known of before, the texts take turns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from spanrelay.otlp_in.telemetry import Span
from spanrelay.records import Message, ModelRequest, Role, SpanRecord, Text, ToolCallResponse
from spanrelay.semconv import names

SPRING_PROMPT = "spring.ai.chat.prompt.texts"
"""The attribute in which a model call of Spring AI has what its log record told."""
_KEPT = 64
"""Conversations that are remembered of those that may go on."""


class _Form(NamedTuple):
    """How a framework writes a request: between texts, for a turn of calls, and whether results are texts apart."""

    separator: str
    silent: str
    apart: bool


_QUARKUS = _Form("\n", "null", apart=True)
_SPRING = _Form('", "', "", apart=False)


class _Said(NamedTuple):
    """A message, and the text that it is in a request."""

    message: Message
    text: str


class _Known(NamedTuple):
    """A conversation, and how a request would begin that goes on with all of it, or with what was said in it."""

    said: list[_Said]
    whole: str
    spoken: str


class Roles:
    """The conversations of traces that belong together, which are told one after another."""

    def __init__(self) -> None:
        self._known: list[_Known] = []

    def repair(self, spans: list[Span], records: list[SpanRecord]) -> None:
        """Make messages of the requests of a trace that are but texts."""
        asked = [(span, record, told) for span, record in zip(spans, records, strict=True) if (told := _told(span))]
        if not asked:
            return
        runs = _runs(spans, records)
        for _, record, (prompt, form) in sorted(asked, key=lambda each: (each[0].start, each[0].span_id)):
            if record.kind == "llm":
                self._tell(record, prompt, form, runs)

    def _tell(self, record: SpanRecord, prompt: str, form: _Form, runs: dict[str, _Said]) -> None:
        known, rest = self._begun(prompt, form)
        said = [*known.said, *_rest(rest, known.said[-1].message, form, runs)] if known else _turns(prompt, form)
        request = record.request = record.request or ModelRequest()
        request.messages = [each.message for each in said]
        record.content = True
        answer = record.response.messages[0] if record.response is not None and record.response.messages else None
        if answer is not None:
            said.append(_Said(answer, answer.text or form.silent))
        spoken = [each for each in said if not each.message.tool_calls and each.message.role != "tool"]
        self._known = [each for each in self._known if each is not known]
        self._known.append(_Known(said, _joined(said, form), _joined(spoken, form)))
        del self._known[:-_KEPT]

    def _begun(self, prompt: str, form: _Form) -> tuple[_Known | None, str]:
        """Return the conversation that a request goes on with, and the rest of the request.

        A memory may keep what was said and nothing of tools, which is no other conversation.
        """
        found: tuple[_Known | None, str] = (None, "")
        for known in self._known:
            for begins in (known.whole, known.spoken):
                rest = prompt[len(begins) + len(form.separator) :]
                goes_on = begins and (prompt == begins or prompt.startswith(begins + form.separator))
                if goes_on and (found[0] is None or len(rest) <= len(found[1])):
                    found = known, rest
        return found


def _joined(said: list[_Said], form: _Form) -> str:
    return form.separator.join([each.text for each in said])


def _told(span: Span) -> tuple[str, _Form] | None:
    """Return the texts of a request, as its framework writes them."""
    spring, prompt = span.attributes.get(SPRING_PROMPT), span.attributes.get(names.PROMPT)
    if isinstance(spring, str):
        return spring, _SPRING
    if isinstance(prompt, str) and (span.origin.scope or "").startswith("io.quarkus"):
        return prompt, _QUARKUS
    return None


def _runs(spans: list[Span], records: list[SpanRecord]) -> dict[str, _Said]:
    """Return the results of tools, by the ids of their calls, and the texts that they are in a request."""
    found: dict[str, _Said] = {}
    for span, record in zip(spans, records, strict=True):
        if record.kind != "tool" or record.tool is None or record.tool.call_id is None:
            continue
        result, failed = record.result, record.error
        content = result.content if result is not None else failed.message if failed is not None else None
        raw = span.attributes.get(names.TOOL_RESULT, content)
        part = ToolCallResponse(record.tool.call_id, content, is_error=failed is not None)
        found[record.tool.call_id] = _Said(Message("tool", [part]), raw if isinstance(raw, str) else json.dumps(raw))
    return found


def _rest(rest: str, last: Message, form: _Form, runs: dict[str, _Said]) -> list[_Said]:
    """Return what follows in a request on the messages that it begins with, of which the last is `last`."""
    calls = [runs.get(call.id or "") or _unknown(call.id) for call in last.tool_calls]
    found: list[_Said] = []
    if calls and not form.apart:
        text, _, rest = rest.partition(form.separator)
        found.append(_Said(Message("tool", [part for call in calls for part in call.message.parts]), text))
    elif calls:
        for call in calls:
            text, rest = _taken(rest, call.text, form)
            found.append(call._replace(text=text))
    if not rest:
        return found
    texts = [rest] if form.apart else rest.split(form.separator)
    return [*found, *_alternating(texts, "assistant" if last.role == "user" else "user")]


def _unknown(call_id: str | None) -> _Said:
    return _Said(Message("tool", [ToolCallResponse(call_id)]), "")


def _taken(rest: str, text: str, form: _Form) -> tuple[str, str]:
    """Return the text of a result, the first of what is left, and what is left behind it."""
    if text and (rest == text or rest.startswith(text + form.separator)):
        return text, rest[len(text) + len(form.separator) :]
    first, _, behind = rest.partition(form.separator)
    return first, behind


def _turns(prompt: str, form: _Form) -> list[_Said]:
    """Return the messages of a request that nothing is known of before: user and model take turns, and a user is last.

    The turns of calls say nothing, nor which results are theirs, and are left out. Where texts are apart by a newline
    only, more than two may as well be lines of one.
    """
    texts = prompt.split(form.separator)
    if form.apart and len(texts) > _SYSTEM_AND_USER:
        return [_said("user", prompt)]
    spoken = [text for text in texts if text != form.silent]
    system = len(spoken) % 2 == 0
    return [*(_said("system", text) for text in spoken[:system]), *_alternating(spoken[system:], "user")]


_SYSTEM_AND_USER = 2


def _alternating(texts: Iterable[str], role: Role) -> list[_Said]:
    other: Role = "user" if role == "assistant" else "assistant"
    return [_said(other if at % 2 else role, text) for at, text in enumerate(texts)]


def _said(role: Role, text: str) -> _Said:
    return _Said(Message(role, [Text(text)]), text)
