"""Retrievers: each question is one RETRIEVER span with the documents that were found. No policy runs here."""

from __future__ import annotations

from functools import partial
from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope, scope
from spanrelay.tracing import Tracing
from spanrelay_langchain.unmanaged import awithin, kept, within


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of asking a retriever."""
    retrievers = Retrievers(tracing)
    return (
        Patch("langchain_core.retrievers", "BaseRetriever.invoke", retrievers.invoke, required=False),
        Patch("langchain_core.retrievers", "BaseRetriever.ainvoke", retrievers.ainvoke, required=False),
    )


class Retrievers:
    """The wrappers around `BaseRetriever`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def invoke(self, wrapped: Any, retriever: Any, args: Any, kwargs: Any) -> Any:
        """Ask a retriever."""
        return within(_asked(retriever, args, kwargs), self._tracing, partial(wrapped, *args, **kwargs), _found)

    async def ainvoke(self, wrapped: Any, retriever: Any, args: Any, kwargs: Any) -> Any:
        """Ask a retriever and await it."""
        return await awithin(_asked(retriever, args, kwargs), self._tracing, partial(wrapped, *args, **kwargs), _found)


def _asked(retriever: Any, args: Any, kwargs: Any) -> Scope:
    """Return the scope of one question."""
    name = type(retriever).__name__
    with guarded("reading a retriever's name"):
        name = retriever.get_name()
    entered = scope(name, "retriever").make()
    entered.record.input = kept(args[0] if args else kwargs.get("input"))
    return entered


def _found(documents: Any) -> Any:
    """Return what is recorded of documents."""
    return [getattr(document, "__dict__", document) for document in documents]
