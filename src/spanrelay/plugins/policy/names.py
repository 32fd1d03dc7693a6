"""Which names the lists allow: of models, of tools.

A name is compared here and nowhere else.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache
from typing import Any

from spanrelay.plugins.policy.settings import Names
from spanrelay.records import Kind

MODELS: frozenset[Kind] = frozenset({"llm", "embedder", "reranker"})
"""The kinds of call that name a model."""


class Judge:
    """The lists for one sort of name, compiled."""

    def __init__(self, what: str, names: Names) -> None:
        self._what = what
        self._allow = None if names.allow is None else pattern_of(names.allow)
        self._deny = [(pattern, pattern_of([pattern])) for pattern in names.deny]
        self.judges = names.allow is not None or bool(names.deny)
        self.refusal = lru_cache(maxsize=1024)(self._refusal)
        """Returns why what goes by any of the names given may not be used, or None."""

    def _refusal(self, *names: str) -> str | None:
        for name in names:
            for pattern, compiled in self._deny:
                if compiled.match(name.casefold()):
                    return f"{self._what} {name!r} is denied by {pattern!r}"
        if self._allow is not None and not any(self._allow.match(name.casefold()) for name in names):
            return f"{self._what} {names[0]!r} is not among those allowed"
        return None

    def model_refusal(self, call: Any) -> str | None:
        """Return why the model that `call` is about to be sent to may not be used, or None."""
        model = model_of(call)
        if model is not None:
            return self.refusal(model)
        return None if self._allow is None else "the request names no model, and only some are allowed"


def pattern_of(globs: list[str]) -> re.Pattern[str]:
    """Compile patterns into one, which matches nothing where there are none."""
    return re.compile("|".join(fnmatch.translate(glob.casefold()) for glob in globs) or r"(?!)")


def model_of(call: Any) -> str | None:
    """The model that a call is about to be sent to."""
    model = call.outgoing().get("model")
    return model if isinstance(model, str) else call.request.model
