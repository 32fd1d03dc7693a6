"""LangChain over OpenAI with both instrumentors at work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spanrelay_langchain import LangChainInstrumentor
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, at_work
from spanrelay_testkit.exchange import Usage, reply
from spanrelay_testkit.model_server import ModelServer


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test; nothing is logged and nothing stays current."""
    with at_work(capture, OpenAIInstrumentor, LangChainInstrumentor, log=caplog):
        yield capture


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A provider that says `Blue like the sea.`."""
    with ModelServer(lambda request: reply("Blue like the sea.", usage=Usage(11, 3))) as server:
        yield server
