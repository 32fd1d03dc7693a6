"""Requests of a model that failed and were sent again are one call, whoever tells of them, and how many of them."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay.otlp_in import attempts, hooks
from spanrelay.otlp_in.accounts import MAIN, Account, Call, Place, Prompt, Thread
from spanrelay.otlp_in.accounts.telling import records_of
from spanrelay.otlp_in.telemetry import TranscriptLine
from spanrelay.records import ErrorInfo, Text

SECOND = 1_000_000_000


def asked(number: int, error: ErrorInfo | None) -> Call:
    """A request, with a span of its own."""
    start = number * SECOND
    place = Place(1, number, None, False, start, start + 1)
    return Call(f"{number:016x}", start, start + 1, error=error, place=place)


def prompted(time: int) -> Prompt:
    return Prompt(f"{time}", time, "user", [Text("Go on.")])


def hook(number: int, **told: Any) -> TranscriptLine:
    said = {"hook_event_name": "PostModelRequest", "session_id": "s", "request_id": "r", "model": "gpt-5", **told}
    return TranscriptLine("codex", "hooks of s", ("s",), number * SECOND + 1, {hooks.KEY: {"hook": said}})


def joined(calls: list[Call], told: list[TranscriptLine]) -> list[Any]:
    account = Account("s", "codex")
    thread = account.thread(MAIN)
    thread.prompts = {"0": prompted(0)}
    thread.calls = {call.key: call for call in calls}
    attempts.unite(thread)
    begun = hook(0, hook_event_name="UserPromptSubmit", turn_id="0", prompt="Go on.")
    [whole] = hooks.with_hooks([account], [begun, *told], "codex", lambda _: None, {"s"})
    return [record for record in records_of([whole]) if record.kind == "llm" and not record.name.startswith("attempt")]


@pytest.mark.parametrize("heard", [0, 1, 5, 6], ids="{} spans".format)
def test_a_call_that_never_came_to_anything_failed_once_for_the_reason_that_is_known(heard: int) -> None:
    calls = [asked(number, ErrorInfo("HTTP 403", status_code=403)) for number in range(1, heard + 1)]
    if calls:
        calls[-1].error = None  # as where the program ends before it has told of it
    told = [hook(number, status="failed", error="denied by policy") for number in range(1, 7)]
    [record] = joined(calls, told)
    assert record.error is not None and record.error.message == "denied by policy"


@pytest.mark.parametrize("heard", [0, 3], ids="{} spans".format)
def test_a_call_that_came_to_something_in_the_end_did_not_fail(heard: int) -> None:
    calls = [asked(number, ErrorInfo("HTTP 529") if number < heard else None) for number in range(1, heard + 1)]
    told = [hook(number, status="failed", error="overloaded") for number in (1, 2)]
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    [record] = joined(calls, [*told, hook(3, status="completed", response_id="resp-1", token_usage=usage)])
    assert record.error is None
    assert record.response is not None and record.response.usage is not None
    assert record.response.usage.input_tokens == 10


def test_a_request_after_a_prompt_is_another_call() -> None:
    thread = Thread(MAIN)
    first, second = asked(1, ErrorInfo("HTTP 403")), asked(3, ErrorInfo("HTTP 403"))
    thread.prompts = {"2": prompted(2 * SECOND)}
    thread.calls = {call.key: call for call in (first, second)}
    attempts.unite(thread)
    assert thread.in_order() == [first, second]
    assert second.failures == []
