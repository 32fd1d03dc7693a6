"""NeMo Guardrails with the instrumentor at work."""

import sys
from collections.abc import Iterator

import pytest

from spanrelay_testkit.capture import Capture, at_work


@pytest.fixture(scope="session", autouse=True)
def clients_are_closed() -> Iterator[None]:
    """The toolkit keeps its clients for the life of the process."""
    yield
    if "nemoguardrails.llm.frameworks" in sys.modules:
        from nemoguardrails.llm.frameworks import get_default_framework, get_framework

        from .bots import LOOP

        LOOP.run_until_complete(get_framework(get_default_framework()).aclose())
        LOOP.close()


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the toolkit and the OpenAI SDK are instrumented; nothing stays current."""
    from spanrelay_nemo_guardrails import NemoGuardrailsInstrumentor
    from spanrelay_openai import OpenAIInstrumentor

    with at_work(capture, NemoGuardrailsInstrumentor, OpenAIInstrumentor):
        yield capture
