"""What spans do whose names say so before their attributes do, or better: of instrumentation that is known for it."""

from __future__ import annotations

import re

from spanrelay.records import Kind

LLAMA_INDEX = "openinference.instrumentation.llama_index"
"""The tracer of OpenInference's instrumentor for LlamaIndex, which says nothing of a span until it ends."""
_GOOGLE_ADK = "gcp.vertex.agent"

_KINDS: dict[str, tuple[tuple[re.Pattern[str], Kind], ...]] = {
    LLAMA_INDEX: (
        (re.compile(r"\._prepare_chat_with_tools$"), "chain"),  # a request is put together, and no model asked
        (re.compile(r"\.run_agent_step$"), "agent"),
        (re.compile(r"Tool\.a?call$"), "tool"),
    ),
    _GOOGLE_ADK: ((re.compile(r"^execute_tool (?!\(merged\))"), "tool"),),
}
_ASKS = re.compile(r"\.a?(?:stream_)?(?:chat|complete)$")


def kind_of_span(scope: str | None, name: str) -> Kind | None:
    """Return what a span does by its name, where that is to be believed."""
    kinds = _KINDS.get(scope) if scope is not None else None
    return next((kind for pattern, kind in kinds if pattern.search(name)), None) if kinds is not None else None


def asks_model(scope: str | None, name: str) -> bool:
    """Whether a span is of a model call, though its attributes say so only as it ends."""
    return scope == LLAMA_INDEX and _ASKS.search(name) is not None
