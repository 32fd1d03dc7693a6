"""The MCP SDK with the instrumentor at work."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

if find_spec("mcp") is None:  # it has environments of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the SDK is instrumented; nothing stays current."""
    from spanrelay_mcp import MCPInstrumentor

    with at_work(capture, MCPInstrumentor):
        yield capture
