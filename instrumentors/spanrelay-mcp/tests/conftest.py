"""The MCP SDK with the instrumentor at work."""

from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

if find_spec("mcp") is None:  # it has environments of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what older versions of the SDK warn of by themselves: streams that they leave open."""
    if find_spec("mcp") is None or not version("mcp").startswith("1."):
        return
    for item in items:
        for warning in ("ResourceWarning", "DeprecationWarning", "pytest.PytestUnraisableExceptionWarning"):
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the SDK is instrumented; nothing stays current."""
    from spanrelay_mcp import MCPInstrumentor

    with at_work(capture, MCPInstrumentor):
        yield capture
