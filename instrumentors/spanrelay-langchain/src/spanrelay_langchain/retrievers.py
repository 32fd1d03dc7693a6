"""Retrievers: each question is one RETRIEVER span with the documents that were found. No policy runs here."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import attach, detach, get_current

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.scopes import Scope, scope
from spanrelay.tracing import Tracing


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
        entered = _asked(retriever, args, kwargs)
        token = attach(entered.open(self._tracing, get_current()))
        try:
            documents = wrapped(*args, **kwargs)
        except BaseException as error:
            entered.close(error)
            raise
        finally:
            detach(token)
        _found(entered, documents)
        return documents

    async def ainvoke(self, wrapped: Any, retriever: Any, args: Any, kwargs: Any) -> Any:
        """Ask a retriever and await it."""
        entered = _asked(retriever, args, kwargs)
        token = attach(entered.open(self._tracing, get_current()))
        try:
            documents = await wrapped(*args, **kwargs)
        except BaseException as error:
            entered.close(error)
            raise
        finally:
            detach(token)
        _found(entered, documents)
        return documents


def _asked(retriever: Any, args: Any, kwargs: Any) -> Scope:
    """Return the scope of one question."""
    name = type(retriever).__name__
    with guarded("reading a retriever's name"):
        name = retriever.get_name()
    entered = scope(name, "retriever").make()
    entered.record.input = _json.loads(_json.dumps(args[0] if args else kwargs.get("input")))
    return entered


def _found(entered: Scope, documents: Any) -> None:
    """End the scope with the documents."""
    if entered.span is not None and entered.span.is_recording():
        with guarded("keeping documents"):
            found = [getattr(document, "__dict__", document) for document in documents]
            entered.record.output = _json.loads(_json.dumps(found))
    entered.close()
