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
            denial = self._denial(name)
            if denial is not None:
                return denial
        if self._allow is not None and not any(self._allow.match(name.casefold()) for name in names):
            return f"{self._what} {names[0]!r} is not among those allowed"
        return None

    def _denial(self, name: str) -> str | None:
        for pattern, compiled in self._deny:
            if compiled.match(name.casefold()):
                return f"{self._what} {name!r} is denied by {pattern!r}"
        return None

    def model_refusal(self, call: Any) -> str | None:
        """Return why the model that `call` is about to be sent to may not be used, or None."""
        model, deployment, beside = model_of(call), call.deployment, call.named_beside
        if deployment is None and not beside and model is not None:
            return self.refusal(model)
        # What the URL names is what runs; the body's name must not be denied, and need not be allowed.
        runs = [deployment if deployment is not None else model, *beside]
        reasons = (self.refusal(name) for name in runs if name is not None)
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None and model is not None:
            reason = self._denial(model)
        if reason is None and runs == [None] and self._allow is not None:
            reason = "the request names no model, and only some are allowed"
        return reason


def pattern_of(globs: list[str]) -> re.Pattern[str]:
    """Compile patterns into one, which matches nothing where there are none."""
    return re.compile("|".join(fnmatch.translate(glob.casefold()) for glob in globs) or r"(?!)")


def model_of(call: Any) -> str | None:
    """The model that a call is about to be sent to."""
    model = call.outgoing().get("model")
    return model if isinstance(model, str) else call.request.model
