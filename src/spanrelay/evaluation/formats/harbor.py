"""Rows as `harbor traces export` makes them: one for each answer of a model, with all that led to it.

As of Harbor 0.26: what is no answer has the role `user`, and metadata is that of the trial that a file lies in.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from spanrelay.evaluation.conversations import Conversation, Turn
from spanrelay.evaluation.formats.row import NO_MEDIA, Origin, Row, has_media, spelled, spelled_tools, text_of
from spanrelay.evaluation.trials import Trial


def refusal(conversation: Conversation) -> str | None:
    """Return why the format has no form for a conversation; None where it has one."""
    return NO_MEDIA if has_media(conversation.turns) else None


def rows(conversation: Conversation, origin: Origin, *, reasoning: bool) -> Iterator[Row]:
    """Yield a row for each answer, or one for all of a sub-agent's, as Harbor does."""
    told = _told(conversation, reasoning)
    places = {id(turn): place for place, (turn, _) in enumerate(told)}
    answers = [step for step in conversation.document.steps if step.source == "agent" and not step.is_copied_context]
    numbers = {step.step_id: number for number, step in enumerate(answers)}
    own = [turn for turn in conversation.turns if turn.role == "assistant" and not turn.step.is_copied_context]
    for turn in own if conversation.parent is None else own[-1:]:
        row = _head(conversation, origin, numbers[turn.step.step_id] if conversation.parent is None else 0)
        row["conversations"] = [message for _, message in told[: places[id(turn)] + 1]]
        metrics = turn.step.metrics
        counted = metrics is not None and metrics.prompt_tokens is not None
        tokens = (metrics.prompt_tokens or 0) + (metrics.completion_tokens or 0) if metrics and counted else None
        yield Row(row, tokens)


def _told(conversation: Conversation, reasoning: bool) -> list[tuple[Turn, dict[str, str]]]:
    """The messages of a conversation, each with its turn; the results of one answer are one message."""
    found: list[tuple[Turn, dict[str, str]]] = []
    offered = False
    for _, group in groupby(conversation.turns, key=_together):
        turns = list(group)
        if turns[0].role == "assistant":
            text = spelled(turns[0], reasoning=reasoning)
        else:
            text = "\n".join(text_of(turn.content) for turn in turns)
        if turns[0].role == "system" and not offered:
            text, offered = spelled_tools(conversation.document.agent.tool_definitions or [], text), True
        found.append((turns[0], {"role": "assistant" if turns[0].role == "assistant" else "user", "content": text}))
    return found


def _together(turn: Turn) -> tuple[int, bool]:
    return id(turn.step), turn.role == "assistant"


def _head(conversation: Conversation, origin: Origin, number: int) -> dict[str, Any]:
    document, trial = conversation.document, origin.trial or Trial()
    model = document.agent.model_name or trial.model or "unknown-model"
    head: dict[str, Any] = {
        "conversations": [],
        "agent": document.agent.name,
        "model": model,
        "model_provider": trial.provider or "unknown-provider",
        "date": trial.started or next((step.timestamp for step in document.steps if step.timestamp), ""),
        "task": trial.task,
        "episode": f"episode-{number}",
        "run_id": trial.run or conversation.session or "unknown-run",
        "trial_name": trial.name,
        "result": trial.result,
    }
    if document.agent.tool_definitions:
        head["tool_definitions"] = document.agent.tool_definitions
    return head
