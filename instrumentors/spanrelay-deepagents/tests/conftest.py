"""Deep Agents with all that they are made of instrumented."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

# It has an environment of its own: see test_environment.py.
collect_ignore_glob = [] if find_spec("deepagents") else ["test_[!e]*.py"]


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which everything is instrumented; nothing is logged and nothing stays current."""
    from spanrelay_deepagents import DeepAgentsInstrumentor
    from spanrelay_langchain import LangChainInstrumentor
    from spanrelay_langgraph import LangGraphInstrumentor
    from spanrelay_openai import OpenAIInstrumentor

    with at_work(
        capture, OpenAIInstrumentor, LangChainInstrumentor, LangGraphInstrumentor, DeepAgentsInstrumentor, log=caplog
    ):
        yield capture
