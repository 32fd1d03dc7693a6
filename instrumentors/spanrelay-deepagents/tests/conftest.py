"""Deep Agents with all that they are made of instrumented."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture

# It has an environment of its own: see test_environment.py.
collect_ignore_glob = [] if find_spec("deepagents") else ["test_[!e]*.py"]


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which everything is instrumented; nothing is logged and nothing stays current."""
    from opentelemetry.context import get_current

    from spanrelay_deepagents import DeepAgentsInstrumentor
    from spanrelay_langchain import LangChainInstrumentor
    from spanrelay_langgraph import LangGraphInstrumentor
    from spanrelay_openai import OpenAIInstrumentor

    before = get_current()
    kinds = (OpenAIInstrumentor, LangChainInstrumentor, LangGraphInstrumentor, DeepAgentsInstrumentor)
    for kind in kinds:
        kind().instrument(tracer_provider=capture.provider)
    yield capture
    for kind in kinds:
        kind().uninstrument()
    assert get_current() == before
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
