"""What can be measured, by name: where each row stands.

A row's module is imported when the row runs, so that a build without what one row needs can be measured by the others.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from benchmarks.measure import Effort
from benchmarks.results import Result

ROWS = {
    "chat-1k": "ours:chat_1k",
    "chat-10k": "ours:chat_10k",
    "history": "ours:history",
    "stream": "ours:stream",
    "chunk": "ours:chunk",
    "sampled-out": "ours:sampled_out",
    "request-intercept": "ours:request_intercept",
    "execution-intercept": "ours:execution_intercept",
    "guardrail": "ours:guardrail",
    "tool": "ours:tool",
    "sanitizers": "observation:sanitizers",
    "events": "observation:events",
    "agent": "graphs:agent_sync",
    "agent-async": "graphs:agent_async",
    "node": "graphs:node",
    "trajectories": "ours:trajectories",
    "boot": "boot:boot",
    "session": "session:session",
    "growing": "growing:growing",
    "growing-trajectories": "growing:growing_trajectories",
    "growing-new": "growing:growing_new",
    "growing-local": "growing:growing_local",
    "concurrent": "concurrent:concurrent",
    "assembly": "assembly:assembly",
    "convert": "conversion:convert",
    "archive": "archive:archive",
    "collect": "collecting:collect",
    "kafka": "kafka:kafka",
    "scale": "scale:scale",
    "gateway": "gateway:gateway",
    "gateways": "gateways:gateways",
    "anthropic": "ours:anthropic",
    "google-genai": "ours:google_genai",
    "bedrock": "ours:bedrock",
}


def measure(name: str, effort: Effort) -> list[Result]:
    """Measure one row with the packages of this environment.

    Raises:
        ImportError, AttributeError, TypeError: they have not what the row measures.
    """
    module, _, function = ROWS[name].partition(":")
    row: Callable[[Effort], list[Result]] = getattr(import_module(f"benchmarks.{module}"), function)
    return row(effort)
