"""The OpenAI Agents SDK with the instrumentor at work."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

try:
    import agents
except ImportError:  # it has an environment of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")
else:
    # Nothing of a test is to be sent to OpenAI's tracing backend.
    agents.set_trace_processors([])


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which the SDKs are instrumented; nothing is logged and nothing stays current."""
    from spanrelay_openai import OpenAIInstrumentor
    from spanrelay_openai_agents import OpenAIAgentsInstrumentor

    with at_work(capture, OpenAIInstrumentor, OpenAIAgentsInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def remembering() -> Iterator[Callable[[str], Any]]:
    """Makes a session of an id; closed with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(agents.SQLiteSession(name)))
