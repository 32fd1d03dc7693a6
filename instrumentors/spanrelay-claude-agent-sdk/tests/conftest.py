"""The Claude Agent SDK with the instrumentor at work."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

try:
    import claude_agent_sdk
except ImportError:  # it has an environment of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")


@pytest.fixture
def instrumented(capture: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[Capture]:
    """The spans of a test in which the SDK is instrumented; nothing is logged and nothing stays current."""
    from spanrelay_claude_agent_sdk import ClaudeAgentSDKInstrumentor
    from spanrelay_claude_agent_sdk.joining import _sessions

    with at_work(capture, ClaudeAgentSDKInstrumentor, log=caplog):
        yield capture
    assert dict(_sessions) == {}


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., Any]:
    """Makes the options of a session whose provider is a test's own, and which reads nobody's settings."""

    def make(provider: Any, **more: Any) -> Any:
        from .ways import environment

        settings: dict[str, Any] = {"permission_mode": "bypassPermissions", "setting_sources": [], "cwd": tmp_path}
        environment_ = {**environment(provider, tmp_path), **more.pop("env", {})}
        return claude_agent_sdk.ClaudeAgentOptions(**{**settings, "env": environment_, **more})

    return make
