"""Whether a model call goes on in a document, and how: from its last answer, an earlier one, or what was cut away.

Nothing is written here, and nothing remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

from spanrelay.assembly import steps
from spanrelay.assembly.document import Copied, Document, shape_of, system_key
from spanrelay.assembly.runs import beginnings
from spanrelay.assembly.transcript import Alignment, key_of, split_system
from spanrelay.records import ModelRequest, SpanRecord


@dataclass(slots=True)
class Place:
    """How a model call goes on in a document; `sent_id` where it sent only what is new since that answer.

    `copied` where a later call has been told already, and has repeated this one's answer.
    """

    alignment: Alignment
    sent_id: str | None = None
    copied: Copied | None = None


def find(document: Document, record: SpanRecord) -> Place | None:
    """Return how a model call goes on here, or None where it continues nothing that is known."""
    request = record.request or ModelRequest()
    if not request.messages or not record.content:
        going_on = document.line.count or not document.count
        return Place(document.line.transcript.delta([])) if going_on else None
    if document.fan is not None and not document.line.count and shape_of(record) == document.fan.shape:
        return None
    head, start = split_system(request.messages)
    sent_id = request.parameters.get("previous_response_id")
    if sent_id in document.line.response_ids:
        return Place(_built_upon(document, request, start, sent_id), sent_id)
    found = document.line.transcript.align(request.messages, start)
    if _belongs(document, found, system_key(request, head)):
        copied = _copied(document, found, record)
        if copied is not None or not _forks(document, found, record):
            return Place(found, copied=copied)
    conversation = request.parameters.get("conversation_id")
    if conversation and conversation == document.line.id:
        return Place(document.line.transcript.delta(request.messages, start))
    if _retells(document, record, request):
        return Place(document.line.transcript.delta(request.messages, start))
    return None


def _retells(document: Document, record: SpanRecord, request: ModelRequest) -> bool:
    """Whether a request tells in a user's words what tools gave that ran since the last answer, unasked as it seems.

    So it is where a framework has its models ask for tools in words, and puts a history into words of its own.
    """
    line = document.line
    ran = line.ran + beginnings(run for run, candidates in document.waiting if not candidates)
    last = request.messages[-1]
    if not ran or last.role != "user" or record.start < line.last_end:
        return False
    said = last.text
    return all(result in said for result in ran)


def _copied(document: Document, found: Alignment, record: SpanRecord) -> Copied | None:
    """Return the answer of a call that is told behind a later one, if that is known from there."""
    copied = document.line.copied.get(found.kept) if found.kind == "fork" else None
    if copied is None or (record.end or record.start) > copied.since:
        return None
    answer = steps.answer_of(record)
    return copied if answer is not None and key_of(answer) == copied.key else None


def _built_upon(document: Document, request: ModelRequest, start: int, sent_id: str) -> Alignment:
    """Align a request that names the answer it builds upon: only what is new, or all the same."""
    whole = document.line.transcript.align(request.messages, start)
    if whole.kind == "extension" and len(document.line.transcript):
        return whole
    return document.line.transcript.delta(request.messages, start, sent_id)


def _belongs(document: Document, found: Alignment, system: tuple[int, ...]) -> bool:
    """Whether enough is shared: other instructions over the same question are another conversation."""
    if found.kind == "extension":
        return True
    same = system == (document.line.system or ())
    if found.kind in ("compaction", "pruning"):
        return same or found.kept > 1
    return found.kind != "unrelated" and same


def _forks(document: Document, found: Alignment, record: SpanRecord) -> bool:
    """Whether a call leaves the known path while another call on it still runs."""
    return found.kind in ("truncation", "fork") and record.start < document.line.last_end


def extends(document: Document, record: SpanRecord) -> bool:
    """Whether a model call goes on from the last answer here: sure, and cheap where it does not."""
    request = record.request
    if request is None or not record.content:
        return False
    if request.parameters.get("previous_response_id") in document.line.response_ids:
        return True
    return document.line.transcript.extends(request.messages, split_system(request.messages)[1])


def fans_out(document: Document, record: SpanRecord) -> bool:
    """Whether a call that continues nothing is one of several alike: the first ran here, at the same time."""
    first = document.opening
    if first is None or document.fan is not None or document.line.count != 1 or document.waiting or not record.content:
        return False
    alone = document.count == first.count and record.start < document.line.last_end
    return alone and shape_of(record) == first.shape


def is_of_fan(document: Document, record: SpanRecord) -> bool:
    """Whether a call that continues nothing is another of those that were begun here beside each other."""
    return document.fan is not None and record.content and shape_of(record) == document.fan.shape


def resume(document: Document, record: SpanRecord) -> Place | None:
    """Take a request that repeats nothing as the next turn, where it may be: same system, one message.

    So it is where a program keeps the history to itself.
    """
    request = record.request
    if request is None or record.start < document.line.last_end:
        return None
    head, start = split_system(request.messages)
    if len(request.messages) - start != 1 or system_key(request, head) != (document.line.system or ()):
        return None
    return Place(document.line.transcript.delta(request.messages, start))
