"""What the spans of models start with, and who provides a model: read once for each model.

The name of a provider is OpenTelemetry's, whatever LangChain calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spanrelay._guard import guarded
from spanrelay.records import Kind, ModelRequest, SpanRecord
from spanrelay.semconv.names import provider_name, span_name
from spanrelay.tracing import Start, recording

_PACKAGE = "langchain_"
_OF_NOBODY = frozenset({"langchain_core", "langchain_community", "langchain_classic"})
"""Packages that are not a provider's."""


def told_provider(model: Any) -> str:
    """Return the provider that a model says it is for."""
    return model._get_ls_params().get("ls_provider") or ""


def packaged_provider(model: Any) -> str:
    """Return the provider whose package a model comes from."""
    package = type(model).__module__.partition(".")[0]
    return package.removeprefix(_PACKAGE) if package.startswith(_PACKAGE) and package not in _OF_NOBODY else ""


class Starts:
    """What the spans of one kind of models start with: made once for each model.

    Args:
        kind: What the models do.
        operation: `gen_ai.operation.name`.
        provider: Tells a model's provider in LangChain's word, or "".
    """

    def __init__(self, kind: Kind, operation: str, provider: Callable[[Any], str]) -> None:
        self._kind: Kind = kind
        self._operation = operation
        self._provider = provider
        self._known: dict[tuple[type, str | None, bool, str], tuple[Start, str]] = {}

    def of(self, model: Any, name: str | None, *, stream: bool = False) -> tuple[Start, str]:
        """Return the start and the provider's name."""
        key = (type(model), name, stream, recording.dialect)
        known = self._known.get(key)
        if known is None:
            if len(self._known) > 1000:
                self._known.clear()
            known = self._known[key] = self._made(model, name, stream=stream)
        return known

    def _made(self, model: Any, name: str | None, *, stream: bool) -> tuple[Start, str]:
        named = span_name(self._kind, self._operation, name)
        record = SpanRecord(0, 0, name=named, kind=self._kind, operation=self._operation)
        provider = ""
        with guarded("reading a model's provider"):
            provider = self._provider(model)
        record.provider = provider_name(provider) or "langchain"
        record.request = ModelRequest(name, stream=stream)
        return Start(record), record.provider
