"""Recorded telemetry as trajectories, and what those tell: for comparing runs of one conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spanrelay.assembly.atif import violations
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.conversion.work import Summary


def converted(sources: list[Path], folder: Path) -> tuple[list[dict[str, Any]], Summary]:
    """Convert files; return the documents, each strict-valid, in the order of their first steps, and the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = work.convert(sources, Folder(folder))
    documents = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    for document in documents:
        assert violations(document) == []
    return sorted(documents, key=lambda document: document["steps"][0].get("timestamp") or ""), summary


def told(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the steps of a document tell: words, calls and results by their ids, and tokens."""
    return [_told(step) for step in document["steps"]]


def _told(step: dict[str, Any]) -> dict[str, Any]:
    metrics = step.get("metrics") or {}
    calls = step.get("tool_calls") or []
    results = (step.get("observation") or {}).get("results") or []
    found: dict[str, Any] = {
        "source": step["source"],
        "message": _words(step.get("message")),
        "reasoning": step.get("reasoning_content"),
        "calls": {call["tool_call_id"]: (call["function_name"], call["arguments"]) for call in calls},
        "results": {result.get("source_call_id"): _words(result.get("content")) for result in results},
        "failed": {
            result.get("source_call_id") for result in results if (result.get("extra") or {}).get("is_error") is True
        },
        "tokens": tuple(metrics.get(name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")),
    }
    return {name: value for name, value in found.items() if value not in (None, {}, set(), (None, None, None))}


def _words(content: Any) -> Any:
    if isinstance(content, list):
        return "".join(part.get("text") or f"[{part.get('type')}]" for part in content)
    return content


WEATHER: list[dict[str, Any]] = [
    {"source": "system", "message": "You are a weather bot. Be brief."},
    {"source": "user", "message": "What is the weather in Rome and in Atlantis?"},
    {
        "source": "agent",
        "message": "",
        "calls": {
            "call_rome": ("get_weather", {"city": "Rome"}),
            "call_atlantis": ("get_weather", {"city": "Atlantis"}),
        },
        "results": {"call_rome": "sunny, 21 °C", "call_atlantis": "unknown city: Atlantis"},
        "failed": {"call_atlantis"},
        "tokens": (50, 20, 10),
    },
    {
        "source": "agent",
        "message": "It is sunny in Rome (21 °C). Atlantis is not a city I know.",
        "tokens": (90, 15, 40),
    },
    {"source": "user", "message": "Thanks. Which of the two is sunny?"},
    {"source": "agent", "message": "Rome.", "tokens": (120, 5, 80)},
]
"""The conversation of `spans-polyglot`, which each of its captures should become."""
