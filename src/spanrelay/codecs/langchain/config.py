"""What the configuration of a run of LangChain says of it: whose it is, and what it is labelled with.

Reads only what the application wrote; what LangChain and LangGraph add for themselves is left out.
"""

from __future__ import annotations

from typing import Any

from spanrelay import _json
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.records import JSON

_SESSIONS = ("session_id", "conversation_id", "thread_id")
"""Where people put the conversation in `metadata`, the most telling name first."""
_OF_THE_FRAMEWORK = ("langgraph_", "checkpoint", "ls_", "lc_", "__")
"""How the labels begin that the framework writes."""


def session_of(config: Any) -> str | None:
    """Return the conversation of a run: LangGraph's thread, else what `metadata` names."""
    thread = as_mapping(as_mapping(config).get("configurable")).get("thread_id")
    if thread is not None:
        return str(thread)
    metadata = as_mapping(as_mapping(config).get("metadata"))
    named = next((metadata[name] for name in _SESSIONS if metadata.get(name) not in (None, "")), None)
    return None if named is None else str(named)


def labels_of(config: Any) -> dict[str, JSON]:
    """Return `metadata` but for the conversation, and the `tags` of a run."""
    told = as_mapping(as_mapping(config).get("metadata"))
    labels = {
        name: _json.loads(_json.dumps(value))
        for name, value in told.items()
        if name not in _SESSIONS and not str(name).startswith(_OF_THE_FRAMEWORK)
    }
    tags = [tag for tag in as_list(as_mapping(config).get("tags")) if isinstance(tag, str)]
    return {**labels, "tags": tags} if tags else labels
