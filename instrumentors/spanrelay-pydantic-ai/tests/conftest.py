"""Pydantic AI with the instrumentor at work."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture

collect_ignore_glob: list[str] = []

if find_spec("pydantic_ai") is None:  # it has an environment of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which the packages are instrumented; nothing is logged and nothing stays current."""
    from opentelemetry.context import get_current

    from spanrelay_openai import OpenAIInstrumentor
    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    before = get_current()
    instrumentors = (OpenAIInstrumentor(), PydanticAIInstrumentor())
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    yield capture
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    assert get_current() == before
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
