"""Calls of checkpointers, for whoever asks for them: spans below the run that makes them, and none without asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry.context import get_current
from opentelemetry.trace import get_current_span
from tests.programs import run as program_run

import spanrelay
from spanrelay.tracing import recording
from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture

from .graphs import Numbers, chain, named

THREAD: Any = {"configurable": {"thread_id": "t"}}
RUNS: dict[str, Callable[[Any, Any], Any]] = {
    "sync": lambda graph, given: graph.invoke(given, THREAD),
    "async": lambda graph, given: asyncio.run(graph.ainvoke(given, THREAD)),
}
each_way = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def one(state: Numbers) -> Any:
    return {"numbers": [1]}


@pytest.fixture
def checkpoints(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which calls of checkpointers are recorded."""
    before = get_current()
    instrumentor = LangGraphInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider, checkpoints=True)
    yield capture
    instrumentor.uninstrument()
    assert get_current() == before


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


@each_way
def test_what_a_run_reads_and_writes_is_below_it(run: Any, checkpoints: Capture) -> None:
    saver = InMemorySaver()
    assert run(chain(one, name="g", checkpointer=saver), {"numbers": [0]}) == {"numbers": [0, 1]}
    above = named(checkpoints, "invoke_agent g")
    calls = [span for span in checkpoints.spans if "langgraph.checkpointer" in attributes(span)]
    assert sorted(span.name for span in calls) == ["get checkpoint"] + ["put checkpoint"] * 3 + ["put writes"] * 2
    assert {span.parent.span_id for span in calls if span.parent} == {above.context.span_id}
    assert {attributes(span)["langgraph.checkpointer"] for span in calls} == {"InMemorySaver"}
    assert {attributes(span)["gen_ai.conversation.id"] for span in calls} == {"t"}
    assert attributes(named(checkpoints, "get checkpoint"))["langgraph.checkpoint.found"] is False
    written = {attributes(span)["langgraph.checkpoint.id"] for span in calls if span.name == "put checkpoint"}
    assert written == {each.checkpoint["id"] for each in saver.list(THREAD)}
    channels = [attributes(span)["langgraph.checkpoint.channels"] for span in calls if span.name == "put writes"]
    assert sorted(channels) == ["branch:to:one, numbers", "numbers"]


@each_way
def test_nothing_of_it_is_recorded_without_asking(run: Any, instrumented: Capture) -> None:
    run(chain(one, name="g", checkpointer=InMemorySaver()), {"numbers": [0]})
    assert [span.name for span in instrumented.spans] == ["one", "invoke_agent g"]


def test_the_setting_asks_too(capture: Capture) -> None:
    settings = spanrelay.Settings(checkpoints=True, trajectories="off", metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=capture.provider, instrument=False)
    assert runtime is not None
    try:
        LangGraphInstrumentor().instrument(tracer_provider=capture.provider)
        chain(one, name="g", checkpointer=InMemorySaver()).invoke({"numbers": [0]}, THREAD)
    finally:
        LangGraphInstrumentor().uninstrument()
        runtime.deactivate()
        recording.checkpoints = False
    assert named(capture, "get checkpoint")


class Watched(InMemorySaver):
    """Knows which span is current when it is asked, and fails on demand."""

    seen: list[str]
    fails = False

    def get_tuple(self, config: Any) -> Any:
        self.seen.append(getattr(get_current_span(), "name", ""))
        if self.fails:
            raise ConnectionError("no database")
        return super().get_tuple(config)


def watched() -> Watched:
    saver = Watched()
    saver.seen = []
    return saver


@each_way
def test_a_class_that_asks_the_one_it_derives_from_is_asked_once_and_its_span_is_current(
    run: Any, checkpoints: Capture
) -> None:
    saver = watched()
    run(chain(one, name="g", checkpointer=saver), {"numbers": [0]})
    assert saver.seen == ["get checkpoint"]
    assert named(checkpoints, "get checkpoint")


@each_way
def test_a_checkpointer_that_fails_is_an_error_of_its_span_and_of_the_run(run: Any, checkpoints: Capture) -> None:
    saver = watched()
    saver.fails = True
    with pytest.raises(ConnectionError, match="no database"):
        run(chain(one, name="g", checkpointer=saver), {"numbers": [0]})
    assert [(span.name, span.status.status_code.name) for span in checkpoints.spans] == [
        ("get checkpoint", "ERROR"),
        ("invoke_agent g", "ERROR"),
    ]


def test_no_span_says_what_is_stored(checkpoints: Capture) -> None:
    def secret(state: Numbers) -> Any:
        return {"numbers": [4711]}

    chain(secret, name="g", checkpointer=InMemorySaver()).invoke({"numbers": []}, THREAD)
    told = [str(attributes(span)) for span in checkpoints.spans if "langgraph.checkpointer" in attributes(span)]
    assert told and not any("4711" in each for each in told)


def test_classes_are_put_back(capture: Capture) -> None:
    before = vars(InMemorySaver)["put"]
    for _ in range(2):
        LangGraphInstrumentor().instrument(tracer_provider=capture.provider, checkpoints=True)
        assert vars(InMemorySaver)["put"] is not before
        LangGraphInstrumentor().uninstrument()
        assert vars(InMemorySaver)["put"] is before
        assert "__init_subclass__" not in vars(BaseCheckpointSaver)
    with pytest.raises(TypeError, match="checkpoints must be true or false"):
        LangGraphInstrumentor().instrument(tracer_provider=capture.provider, checkpoints=1)


PROGRAM = """
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph


class State(TypedDict):
    count: int


graph = StateGraph(State)
graph.add_node("add", lambda state: {"count": state["count"] + 1})
graph.add_edge(START, "add")
print(graph.compile(checkpointer=InMemorySaver()).invoke({"count": 1}, {"configurable": {"thread_id": "t"}})["count"])
"""


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_a_setting_records_them_in_a_program_that_is_launched(wanted: str, tmp_path: Path) -> None:
    console = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    ran = program_run(PROGRAM, tmp_path, SPANRELAY_CHECKPOINTS=wanted, **console)
    assert ran.code == 0, ran.err
    assert ("put checkpoint" in ran.out) == (wanted == "true")
