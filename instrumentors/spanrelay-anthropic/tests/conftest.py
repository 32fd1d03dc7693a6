"""Anthropic's SDK with the instrumentor at work."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

if find_spec("anthropic") is None:  # it stands in the environment of all providers' SDKs: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which the SDK is instrumented; nothing is logged and nothing stays current."""
    from spanrelay_anthropic import AnthropicInstrumentor

    with at_work(capture, AnthropicInstrumentor, log=caplog):
        yield capture
