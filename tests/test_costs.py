"""What recording may cost, in calls of our functions: they can be counted, and time on a busy machine cannot.

Bounds are what stands there now, rounded up; Python 3.10 and 3.11 count comprehensions, later versions do not.
Counted in a process of its own: what other tests have left in this one costs calls as well.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from benchmarks import workload
from benchmarks.floor import encoding_provider
from benchmarks.ours import recording
from benchmarks.workload import Exchange
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.sampling import Sampler

import spanrelay
from spanrelay import conversation
from spanrelay.assembly.assembler import Assembler
from spanrelay.assembly.transcript import Turn, key_of
from spanrelay.instrumentation.wrappers import Wrapped
from spanrelay.records import Message, ModelRequest, ModelResponse, SpanRecord, Text, Usage

OURS = str(Path(spanrelay.__file__).parent)
ROOT = Path(__file__).parent.parent


def counted(work: Callable[[], object], ours: tuple[str, ...] = (OURS,)) -> Counter[str]:
    """Return how often each of our functions, which are in the folders `ours`, was called for `work` on this thread."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ours):
            calls[frame.f_code.co_name] += 1

    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def costs(kind: str, size: int, *, known: bool = True, sampler: str = "ALWAYS_ON") -> tuple[Counter[str], Counter[str]]:
    """Return the calls that an exchange takes on the thread of the application, and those until it is flushed.

    Where the conversation is not `known`, nothing is remembered of the same exchange before.
    """
    asking, reading = told_by(kind, str(size), str(int(known)), sampler)
    return asking, reading


def told_by(*arguments: str) -> list[Counter[str]]:
    """Return what this file prints as a program."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return [Counter(calls) for calls in json.loads(done.stdout)]


def costs_here(exchange: Exchange, sampler: Sampler, *, known: bool) -> tuple[Counter[str], Counter[str]]:
    """Return the same for an exchange in this process."""
    provider, _ = encoding_provider(sampler)
    with recording(provider) as patched:
        ask = workload.post(exchange)
        patched.on()
        for _ in range(3):  # what is made once is there
            ask()
        provider.force_flush()
        if not known:
            conversation.forget()
        return counted(ask), counted(provider.force_flush)


def agent_here(*, awaited: bool) -> Counter[str]:
    """Return the calls that an agent of five rounds takes on this thread, without those of its instrumentors."""
    from benchmarks import agents, graphs

    provider, _ = encoding_provider()
    with graphs.recording(provider, *graphs.AGENTS) as (_, on), agents.runs(awaited=awaited) as run:
        on()
        for _ in range(3):
            run()
        provider.force_flush()
        return counted(run)


@pytest.fixture(scope="module")
def longer_stream() -> tuple[Counter[str], Counter[str]]:
    """What a hundred chunks more take, on the application's thread and later."""
    short, long = costs("stream", 50), costs("stream", 150)
    return long[0] - short[0], long[1] - short[1]


def test_a_call_of_a_model_keeps_the_application_waiting_for_few_of_our_functions() -> None:
    asking, _ = costs("chat", 1_000)
    assert asking.total() <= 52, asking.most_common(12)


def test_a_call_that_is_not_sampled_takes_few_of_our_functions() -> None:
    asking, _ = costs("chat", 1_000, sampler="ALWAYS_OFF")
    assert asking.total() <= 11, asking.most_common()


def test_what_is_wrapped_is_looked_up_without_a_call_of_ours() -> None:
    class Client:
        ask: Any = Wrapped(counted, cast("Any", counted))

    client = Client()
    assert counted(lambda: client.ask).total() == 0


def test_reading_a_call_of_a_model_later_takes_few_of_our_functions() -> None:
    _, reading = costs("chat", 1_000)
    assert reading.total() <= 114, reading.most_common(12)


def test_a_longer_text_takes_no_more_calls() -> None:
    assert costs("chat", 2_500) == costs("chat", 25_000)


def test_each_message_of_a_conversation_is_read_and_written_with_a_call_each() -> None:
    asking, reading = costs("history", 50, known=False)
    more_asking, more_reading = costs("history", 150, known=False)
    assert more_asking == asking
    more = more_reading - reading
    assert more.total() <= 3 * 100, more.most_common(6)


def test_messages_that_are_known_take_no_calls() -> None:
    asking, reading = costs("history", 50)
    assert (asking, reading) == costs("history", 150)
    assert reading.total() <= 138, reading.most_common(12)


def test_a_chunk_of_a_stream_takes_one_call_on_its_way_to_the_application(
    longer_stream: tuple[Counter[str], Counter[str]],
) -> None:
    assert longer_stream[0] == Counter({"__next__": 100})


def test_a_chunk_of_a_stream_takes_one_call_to_be_read(longer_stream: tuple[Counter[str], Counter[str]]) -> None:
    assert longer_stream[1] == Counter({"add": 100})


@pytest.mark.parametrize(("way", "most"), [("agent", 850), ("agent-async", 920)])
def test_an_agent_of_five_rounds_takes_few_of_our_functions(way: str, most: int) -> None:
    (calls,) = told_by(way)
    assert calls.total() <= most, calls.most_common(12)


def test_the_sdk_cleans_no_attribute_that_a_call_of_ours_starts_with() -> None:
    provider, _ = encoding_provider()
    with recording(provider) as patched:
        ask = workload.post(workload.chat(1_000))
        patched.on()
        ask()
        cleaned = 0

        def count(frame: FrameType, event: str, _: Any) -> None:
            nonlocal cleaned
            cleaned += event == "call" and frame.f_code.co_name == "_clean_attribute_value"

        sys.setprofile(count)
        try:
            ask()
        finally:
            sys.setprofile(None)
    assert cleaned == 0


def assembled(calls: int, *, beside: str | None = None) -> Counter[str]:
    """Return the calls that the last of the model calls of an agent takes to be assembled.

    `beside` is the scope of a framework whose span of that call, around it, is told as well.
    """
    assembler = Assembler(Lines)
    agent = SpanRecord(1, 1, kind="agent", name="invoke_agent", end=10 * calls + 10, scope_name="one", session_id="s")
    assembler.start(agent)
    history: list[Message] = []
    records: list[SpanRecord] = []
    for call in range(1, calls + 1):
        history.append(Message("user", [Text(f"question {call}")]))
        answer = Message("assistant", [Text(f"answer {call}")])
        record = SpanRecord(1, call + 1, 1, kind="llm", start=10 * call, end=10 * call + 5, scope_name="one")
        record.request = ModelRequest("gpt-5-mini", list(history))
        record.response = ModelResponse(f"response-{call}", "gpt-5-mini", [answer], ["stop"], Usage(220, 80))
        history.append(answer)
        records.append(record)
    for record in records[:-1]:
        assembler.end(record)
    last = records[-1]
    if beside is None:
        return counted(lambda: assembler.end(last))
    around = replace(last, span_id=1000, start=last.start - 1, end=(last.end or 0) + 1, scope_name=beside)
    assembler.start(around)
    assembler.end(replace(last, parent_id=1000))
    return counted(lambda: assembler.end(around))


class Lines:
    """A journal that keeps nothing."""

    full = gone = False

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, operation: dict[str, Any]) -> None:
        """Take in an operation."""

    def document(self) -> None:
        """There is none."""


def test_a_model_call_is_assembled_with_few_of_our_functions_however_long_its_conversation_is() -> None:
    short, long = assembled(20), assembled(60)
    # A fingerprint for each message: these share none with the request before, as those that are read from spans do.
    assert long - Counter({"print_of": long["print_of"]}) == short - Counter({"print_of": short["print_of"]})
    assert short.total() - short["print_of"] <= 125, short.most_common(12)


def test_where_one_instrumentation_tells_of_a_trace_nothing_is_looked_at_to_find_a_call_that_is_told_twice() -> None:
    alone = assembled(20)
    assert (alone["_keys_of"], alone["relate"]) == (0, 0)
    told_twice = assembled(20, beside="another")
    assert told_twice["relate"]


def test_a_text_that_is_known_is_not_taken_apart_again_to_be_compared() -> None:
    texts: list[str] = []

    class Watched(str):
        __slots__ = ()

        def split(self, *arguments: Any, **options: Any) -> list[str]:
            texts.append(str(self))
            return super().split(*arguments, **options)

    for _ in range(2):
        key_of(Turn("assistant", [Text(Watched("what the model says, and what the next request repeats"))]))
    assert len(texts) == 1


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind.startswith("agent"):
        print(json.dumps([agent_here(awaited=kind == "agent-async")]))
    else:
        size, known, sampler = rest
        exchange = getattr(workload, kind)(int(size))
        print(json.dumps(costs_here(exchange, getattr(sampling, sampler), known=known == "1")))
