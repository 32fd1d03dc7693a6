"""LangGraph with the instrumentor at work."""

from collections.abc import Iterator

import pytest

from spanrelay_langgraph import LangGraphInstrumentor
from spanrelay_testkit.capture import Capture, at_work


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which LangGraph is instrumented; nothing is logged and nothing stays current."""
    with at_work(capture, LangGraphInstrumentor, log=caplog):
        yield capture
