"""LangGraph with the instrumentor at work."""

from collections.abc import Iterator

import pytest

from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which LangGraph is instrumented; nothing is logged and nothing stays current."""
    from opentelemetry.context import get_current

    before = get_current()
    instrumentor = LangGraphInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    instrumentor.uninstrument()
    assert get_current() == before
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
