"""A call that has ended keeps the bytes of what was asked and answered, and nothing that they were written from."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import spanrelay
from spanrelay import _json
from spanrelay.pipeline.stream import Arrived
from spanrelay_testkit.capture import Capture

ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Arguments(dict[str, Any]):
    """An object of the application's that shows when nobody holds it any more."""


def ended(kind: Any, given: Arguments) -> Any:
    """Make a call with `given`, and return it as policy has kept it."""
    calls: list[Any] = []

    @spanrelay.guardrail(kinds=[kind])
    def keeping(call: Any) -> str | None:
        calls.append(call)
        return None

    @spanrelay.agent
    def run(topic: Any) -> str:
        return "done"

    with spanrelay.use(keeping):
        if kind == "tool":
            spanrelay.run_tool("search", lambda **_: None, given)
        elif kind == "agent":
            run(given)
        else:
            spanrelay.run_model(lambda _: {"choices": []}, given)
    return calls[0]


@pytest.mark.parametrize("kind", ["tool", "agent", "llm"])
def test_it_holds_no_object_of_the_applications(capture: Capture, kind: str) -> None:
    given = Arguments(ASKED)
    held = weakref.ref(given)
    call = ended(kind, given)
    del given
    gc.collect()
    assert (call.kind, held()) == (kind, None)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("kind", ["tool", "agent", "llm"])
def test_it_still_says_what_was_asked(capture: Capture, kind: str, read: bool) -> None:
    call = ended(kind, Arguments(ASKED))
    if not read:
        call.sent = _json.dumps({"topic": ASKED} if kind == "agent" else ASKED)
    if kind == "llm":
        assert (call.request.model, call.request.messages[0].text) == ("m", "hi")
    else:
        said = call.request.arguments if kind == "tool" else call.request.input["topic"]
        assert said == ASKED


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory that is in use")
def test_json_that_is_kept_takes_about_its_length() -> None:
    before = resident()
    kept = [_json.dumps({"k": number}) for number in range(10_000)]
    assert (len(kept), (resident() - before) // len(kept) < 1000) == (10_000, True)


def test_of_many_tiny_chunks_each_counts_with_the_memory_that_it_takes() -> None:

    arrived = Arrived("events", None)
    arrived.chunks.extend(b"%d" % number for number in range(1000))
    assert arrived.size >= sum(map(sys.getsizeof, arrived.chunks))
