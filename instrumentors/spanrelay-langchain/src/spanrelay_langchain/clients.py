"""Which client a chat model sends its requests with: where that one is patched, policy is left to it.

A model that is not known here is never left to its client: policy then runs at the model itself, once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from spanrelay.instrumentation.patching import is_patched


class _Sends(NamedTuple):
    """How the models of one package send: where they hold a client for each colour, and its patched method."""

    sync: str
    asynchronous: str
    method: str


_SENDS = {"BaseChatOpenAI": ("langchain_openai.", _Sends("root_client", "root_async_client", "request"))}
"""By the class that does the sending: the package it must come from, and how it sends."""

_OVERRIDABLE = ("_generate", "_agenerate", "_stream", "_astream")
"""What a subclass may put its own sending into."""


def leaves_policy_to_client(model: Any, *, asynchronous: bool) -> bool:
    """Whether what `model` sends goes through a client that is patched, so that policy sees it on the wire."""
    sends = _sends_of(type(model))
    if sends is None:
        return False
    client = getattr(model, sends.asynchronous if asynchronous else sends.sync, None)
    return client is not None and is_patched(type(client), sends.method)


@lru_cache(maxsize=256)
def _sends_of(kind: type) -> _Sends | None:
    for owner in kind.__mro__:
        package, sends = _SENDS.get(owner.__name__, ("", None))
        if sends is not None and owner.__module__.startswith(package):
            ours = all(getattr(kind, name).__module__.startswith(package) for name in _OVERRIDABLE)
            return sends if ours else None
    return None
