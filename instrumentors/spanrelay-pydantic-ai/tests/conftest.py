"""Pydantic AI with the instrumentor at work."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

if find_spec("pydantic_ai") is None:  # it has an environment of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which the packages are instrumented; nothing is logged and nothing stays current."""
    from spanrelay_openai import OpenAIInstrumentor
    from spanrelay_pydantic_ai import PydanticAIInstrumentor

    with at_work(capture, OpenAIInstrumentor, PydanticAIInstrumentor, log=caplog):
        yield capture
