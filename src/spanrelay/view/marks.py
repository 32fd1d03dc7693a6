"""What went wrong or was unusual in a step or a call, and what policy said: a few words of a kind each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from spanrelay.assembly.atif import ObservationResult, Step, ToolCall, Trajectory
from spanrelay.evaluation.figures import has_failed
from spanrelay.records import JSON
from spanrelay.view.facts import called, failure, incomplete, uncaptured_by

Kind = Literal["error", "refused", "trial", "note"]

REFUSALS = ("GuardrailRejected", "MiddlewareError")
"""The errors by which policy refuses a call, without the modules that they are of."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A kind, which is also its class on the page, a word for it, and what was said."""

    kind: Kind
    word: str
    said: str = ""


def marks_of_step(step: Step) -> list[Mark]:
    """Return what is to be said of a step beside its message."""
    extra = step.extra or {}
    found = [*_of_error(extra), *_of_trial(extra)]
    management = extra.get("context_management")
    if isinstance(management, dict):
        found.append(Mark("note", f"context {management.get('type', 'changed')}"))
    if step.is_copied_context:
        found.append(Mark("note", "copied from an earlier part"))
    uncaptured = uncaptured_by(step)
    notes = [
        called(step),
        incomplete(extra),
        f"content not captured by {uncaptured[0]}" if uncaptured else None,
        _finished(extra),
        "truncated" if extra.get("truncated") else None,
        _retried(extra),
        _missing(extra),
    ]
    return found + [Mark("note", note) for note in notes if note]


def _finished(extra: dict[str, JSON]) -> str | None:
    reason = extra.get("finish_reason")
    reasons = reason if isinstance(reason, list) else [reason]
    return f"finished: {', '.join(map(str, reasons))}" if reason else None


def _retried(extra: dict[str, JSON]) -> str | None:
    number = extra.get("retry_of_step")
    return f"again after step {number}" if number else None


def _missing(extra: dict[str, JSON]) -> str | None:
    count = extra.get("missing_messages")
    return f"{count} messages before it are missing" if count else None


def marks_of_call(call: ToolCall, results: list[ObservationResult]) -> list[Mark]:
    """Return what is to be said of a tool call and of its results."""
    extra = call.extra or {}
    refused = extra.get("refused")
    found = [Mark("refused", "refused by policy", str(refused))] if refused else []
    for result in results:
        marks = marks_of_result(result)
        found += [mark for mark in marks if not (refused and mark.kind in ("error", "refused"))]
    return [*found, *_of_trial(extra), *([Mark("note", "run by the provider")] if extra.get("server_side") else [])]


def marks_of_result(result: ObservationResult) -> list[Mark]:
    """Return what is to be said of a result."""
    extra = result.extra or {}
    found = [*_of_error(extra)]
    if not found and has_failed(extra):
        found = [Mark("error", "failed")]
    note = incomplete(extra)
    return [*found, *_of_trial(extra), *([Mark("note", note)] if note else [])]


def _of_error(extra: dict[str, JSON]) -> Iterator[Mark]:
    if "error" not in extra:
        return
    error: Any = extra["error"]
    if not isinstance(error, dict):
        yield Mark("error", "error", "" if error in (None, True) else str(error))
        return
    told = cast("dict[str, JSON]", error)
    if str(told.get("type")).rpartition(".")[2] in REFUSALS:
        yield Mark("refused", "refused by policy", str(told.get("message") or told.get("type")))
    else:
        yield Mark("error", "error", failure(told))


def _of_trial(extra: dict[str, JSON]) -> Iterator[Mark]:
    """What policy on trial would have done."""
    for act in ("refuse", "change"):
        verdicts = extra.get(f"would_{act}")
        if isinstance(verdicts, list):
            yield from (Mark("trial", f"policy on trial would {act}", str(verdict)) for verdict in verdicts)


def marks_of(document: Trajectory) -> Iterator[Mark]:
    """Yield all marks of a document's own steps."""
    for step in document.steps:
        yield from marks_of_step(step)
        results = step.observation.results if step.observation else []
        for call in step.tool_calls or []:
            yield from marks_of_call(call, [each for each in results if each.source_call_id == call.tool_call_id])
        for result in results:
            if result.source_call_id is None:
                yield from marks_of_result(result)
