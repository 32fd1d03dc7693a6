"""What single instrumentors of OpenInference write in ways of their own, brought into the form that others have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from spanrelay.records import JSON, AgentInfo, SpanRecord, ToolResult
from spanrelay.semconv import names
from spanrelay.semconv.span_names import LLAMA_INDEX
from spanrelay.semconv.values import as_list, as_object, decode, text

_CREWAI = "openinference.instrumentation.crewai"
_DSPY = "openinference.instrumentation.dspy"
_RUN, _TASK = ".run", "._execute_core"
_ACTING = re.compile(r"current_agent_name='([^']+)'")


def agent_of(attributes: Mapping[str, Any], record: SpanRecord) -> AgentInfo | None:
    """Return the agent of a span that is named nowhere else: after the span, as in `weather.run`, or in its input."""
    if record.scope_name == LLAMA_INDEX:
        found = _ACTING.search(text(attributes.get(names.OI_INPUT)) or "")
        return AgentInfo(found[1]) if found is not None else None
    if record.scope_name == _CREWAI:
        role, _, rest = record.name.rpartition(_TASK)
        role = text(attributes.get(names.OI_NODE)) or (role if not rest and "." not in role else "")
        return AgentInfo(role) if role else None
    return AgentInfo(record.name.removesuffix(_RUN)) if record.name.endswith(_RUN) else None


def settle(record: SpanRecord) -> None:
    """Put what was read of a span into the form that it has everywhere else."""
    if record.scope_name == LLAMA_INDEX:
        if record.kind == "agent":
            record.input = record.output = None  # how the objects of a workflow look in Python
        elif record.result is not None:
            record.result = _shown(record.result)
    elif record.scope_name == _DSPY and record.tool is not None:
        record.tool.name = record.tool.name.removesuffix(".__call__")
    elif record.scope_name == _CREWAI and record.tool is not None:
        record.tool.name = _shown_name(record.tool.name)
        coworker = text(as_object(record.tool.arguments).get("coworker"))
        record.agent = AgentInfo(coworker) if coworker is not None else record.agent


_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


def _shown_name(name: str) -> str:
    """Return the name under which CrewAI offers a tool to models."""
    return "_".join(word for word in _WORDS.split(name.removesuffix(_RUN)) if word).lower()


def _shown(result: ToolResult) -> ToolResult:
    """Return what a model is shown of a tool's output that LlamaIndex has with what it was made of."""
    told = as_object(decode(result.content))
    if not {"blocks", "raw_output"} <= told.keys():
        return result
    texts: list[JSON] = [as_object(block).get("text") for block in as_list(told["blocks"])]
    said = [each for each in texts if isinstance(each, str)]
    content = "\n".join(said) if said and len(said) == len(texts) else told["raw_output"]
    return ToolResult(content, result.is_error or told.get("is_error") is True)
