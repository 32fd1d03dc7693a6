"""Instrumentation of others beside ours: their spans are left out where ours are in force, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider, _TracerConfig
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanrelay import Settings, activate
from spanrelay.instrumentation import foreign

THEIRS = "openinference.instrumentation.openai"


@pytest.fixture(autouse=True)
def nothing_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_covered", "_told"):
        monkeypatch.setattr(foreign, name, set())


class World:
    """A provider of its own, and the names of the spans that it exports."""

    def __init__(self, **settings: Any) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        chosen = Settings(trajectories="off", metrics=False, quiet=True, **settings)
        self.runtime: Any = activate(chosen, tracer_provider=self.provider, instrument=False)

    def made(self, tracer: Any) -> bool:
        """Whether a span of `tracer` is recorded."""
        self.exporter.clear()
        tracer.start_span("a call").end()
        return len(self.exporter.get_finished_spans()) == 1


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.runtime.shutdown()


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_whoever_comes_first_their_spans_are_left_out_with_one_warning(
    world: World, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    if first == "ours":
        foreign.cover("openai")
    tracer = world.provider.get_tracer(THEIRS)
    foreign.cover("openai")
    assert not world.made(tracer)
    assert not world.made(world.provider.get_tracer(THEIRS, "2"))
    assert [record.getMessage() for record in caplog.records] == [
        "'openinference.instrumentation.openai' and SpanRelay both record calls of openai; its spans are left out, so "
        "that each call is recorded once; SPANRELAY_FOREIGN_SPANS=keep keeps them"
    ]


def test_what_is_below_a_span_that_is_left_out_stands_below_the_one_above(world: World) -> None:
    foreign.cover("openai")
    ours, theirs = world.provider.get_tracer("spanrelay_openai"), world.provider.get_tracer(THEIRS)
    with ours.start_as_current_span("above") as above, theirs.start_as_current_span("between"):
        ours.start_span("below").end()
    below, _ = world.exporter.get_finished_spans()
    assert below.parent == above.get_span_context()


@pytest.mark.parametrize(
    ("package", "name", "left_out"),
    [
        ("openai", "opentelemetry.instrumentation.openai.v1", True),
        ("openai", "opentelemetry.instrumentation.openai_v2", True),
        ("openai", "opentelemetry.instrumentation.genai.openai", True),
        ("openai-agents", "openinference.instrumentation.openai_agents", True),
        ("pydantic-ai-slim", "pydantic-ai", True),
        ("openai", "pydantic-ai", False),
        ("langchain-core", "openinference.instrumentation.langchain", True),
        ("openai", "openinference.instrumentation.openai_agents", False),
        ("openai", "openinference.instrumentation.langchain", False),
        ("openai", "app.openinference.instrumentation.openai", False),
        ("openai", "spanrelay_openai", False),
        ("openai", "openai", False),
    ],
)
def test_only_tracers_that_are_known_to_record_the_same_package_stand_down(
    world: World, package: str, name: str, left_out: bool
) -> None:
    foreign.cover(package)
    assert world.made(world.provider.get_tracer(name)) is not left_out


def test_their_spans_come_back_when_ours_go(world: World) -> None:
    tracer = world.provider.get_tracer(THEIRS)
    foreign.cover("openai")
    foreign.uncover("openai")
    assert world.made(tracer)
    foreign.cover("openai")
    world.runtime.deactivate()
    assert world.made(tracer)


def test_they_stay_where_that_was_asked_for() -> None:
    world = World(foreign_spans="keep")
    foreign.cover("openai")
    assert world.made(world.provider.get_tracer(THEIRS))
    world.runtime.shutdown()


def test_of_spans_that_are_kept_those_of_model_calls_made_beside_ours_are_not_exported() -> None:
    world = World(foreign_spans="keep")
    foreign.cover("langchain-core")
    for name in ("langchain", "openai"):
        tracer = world.provider.get_tracer(f"openinference.instrumentation.{name}")
        for kind in ("LLM", "CHAIN", "TOOL"):
            span = tracer.start_span(f"{name} {kind}")
            span.set_attribute("openinference.span.kind", kind)
            span.end()
    names = [span.name for span in world.exporter.get_finished_spans()]
    assert names == ["langchain CHAIN", "langchain TOOL", "openai LLM", "openai CHAIN", "openai TOOL"]
    world.runtime.shutdown()


def test_a_tracer_configurator_of_the_users_own_holds() -> None:
    provider = TracerProvider(
        shutdown_on_exit=False, _tracer_configurator=lambda scope: _TracerConfig(is_enabled=scope.name != "silent")
    )
    end = foreign.stand_down(provider)
    foreign.cover("openai")
    enabled = {name: provider.get_tracer(name)._is_enabled() for name in ("silent", "loud", THEIRS)}
    assert enabled == {"silent": False, "loud": True, THEIRS: False}
    end()
    assert provider.get_tracer(THEIRS)._is_enabled()
    assert not provider.get_tracer("silent")._is_enabled()
