"""Which names the lists allow: of models, of tools.

A name is compared here and nowhere else, as people mean it: `normal` says what is the same name.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from spanrelay.codecs.naming import models_within, names_of
from spanrelay.plugins.plugin import Diagnostic
from spanrelay.plugins.policy.settings import Names, PolicyConfig
from spanrelay.records import Kind

MODELS: frozenset[Kind] = frozenset({"llm", "embedder", "reranker"})
"""The kinds of call that name a model."""


class Judge:
    """The lists for one sort of name, compiled."""

    def __init__(self, what: str, names: Names) -> None:
        self._what = what
        self._allow = None if names.allow is None else pattern_of(names.allow)
        self._deny = [(pattern, pattern_of([pattern])) for pattern in names.deny]
        self.allows = names.allow is not None
        self.denies = bool(names.deny)
        self.judges = self.allows or self.denies
        # By plain texts alone: a subclass of text may say that it equals another.
        self._denial = lru_cache(maxsize=1024)(self._find_denial)
        self._refusal = lru_cache(maxsize=1024)(self._find_refusal)

    def refusal(self, *names: object) -> str | None:
        """Return why what goes by all of the names given, its own first, may not be used, or None."""
        plain = [plain_text(name) for name in names]
        return self._unreadable(names, plain) or self._refusal(*plain)

    def denial(self, *names: object) -> str | None:
        """Return why what goes by the names is denied, or None; whether it is among those allowed is not asked."""
        plain = [plain_text(name) for name in names]
        return self._unreadable(names, plain) or self._denial(*plain)

    def _unreadable(self, names: tuple[object, ...], plain: list[str | None]) -> str | None:
        kind = next((type(name).__name__ for name, text in zip(names, plain, strict=True) if text is None), None)
        if kind is None:
            return None
        return f"the name of a {self._what} is a {kind!r}, not text, so no list can check it"

    def _find_denial(self, *names: Any) -> str | None:
        for name in names:
            for pattern, compiled in self._deny:
                if compiled.match(normal(name)):
                    return f"{self._what} {name!r} is denied by {pattern!r}"
        return None

    def _find_refusal(self, *names: Any) -> str | None:
        reason = self._find_denial(*names)
        if reason is None and self._allow is not None and not any(self._allow.match(normal(name)) for name in names):
            reason = f"{self._what} {names[0]!r} is not among those allowed"
        return reason

    def model_refusal(self, call: Any) -> str | None:
        """Return why the model that `call` is about to be sent to may not be used, or None."""
        model, deployment = model_of(call), call.deployment
        asked = call.outgoing()
        beside = (*call.named_beside, *models_within(asked), *_beside_by(call.codec, asked))
        if deployment is None and not beside and model is not None:
            return self.refusal(*names_of(model))
        # What the URL names is what runs; the body's name must not be denied, and need not be allowed.
        named = deployment if deployment is not None else model
        runs = [named, *beside]
        reasons = (self.refusal(*names_of(name)) for name in runs if name is not None)
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None and model is not None:
            reason = self.denial(*names_of(model))
        if reason is None and named is None and not call.named_beside and not call.model_kept:
            reason = self._refusal_without_a_name(call)
        return reason

    def _refusal_without_a_name(self, call: Any) -> str | None:
        if self.allows:
            return "the request names no model, and only some are allowed"
        return _UNSEEN if call.outgoing().get("prompt") and call.kind == "llm" and _stores_prompts(call) else None


_UNSEEN = "the request leaves its model to a stored prompt, where no list can check it; name it in the request"


def _stores_prompts(call: Any) -> bool:
    """Whether a request without a model may take it from a prompt that the provider has stored."""
    return any("prompt" in group and "model" in group for group in call.codec.required)


def _beside_by(codec: Any, asked: Any) -> Iterable[Any]:
    """Return the models that a request names in places that its API alone has."""
    find = getattr(codec, "models_beside", None)
    return () if find is None else find(asked)


def plain_text(name: object) -> str | None:
    """Return the text that `name` is sent as, whatever a subclass makes of it; None where it is no text."""
    return str.__str__(name) if isinstance(name, str) else None


def normal(name: str) -> str:
    """Return `name` so that what people take for the same is equal.

    Compatibility forms (full-width letters), characters that nobody sees, blanks around, sorts of dashes and case make
    no difference. Letters of other scripts that look alike do.
    """
    if not (name.isascii() and name.isprintable()):
        seen = "".join(character for character in name if not _is_invisible(character))
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
        name = "".join("-" if _is_dash(character) else character for character in name)
    return name.strip().casefold()


def _is_dash(character: str) -> bool:
    return unicodedata.category(character) == "Pd" or character == "\u2212"


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or character in _INVISIBLE


_INVISIBLE = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0))
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""What Unicode calls ignorable by default and has outside of the categories of format and control characters."""


def pattern_of(globs: list[str]) -> re.Pattern[str]:
    """Compile patterns for names that are `normal` into one, which matches nothing where there are none."""
    return re.compile("|".join(fnmatch.translate(normal(glob)) for glob in globs) or _NOTHING)


def doubts_about_names(config: PolicyConfig) -> list[Diagnostic]:
    """Find patterns that match nothing."""
    known = [
        (f"{table}.{name}", glob)
        for table, names in (("tools", config.tools), ("models", config.models))
        for name in ("allow", "deny")
        for glob in getattr(names, name) or ()
    ]
    known += [(f"tools.rules[{number}].tool", rule.tool) for number, rule in enumerate(config.tools.rules)]
    for table in ("parameters", "prices"):
        known += [(f'{table}."{glob}"', glob) for glob in getattr(config, table)]
    return [Diagnostic(doubt, remedy, key) for key, glob in known for doubt, remedy in _doubts_about(glob)]


def _doubts_about(glob: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a pattern, and what to do."""
    if not normal(glob):
        yield "has an empty pattern", "remove it, or write '*'"
    elif "[" in _CLASS.sub("", glob):
        yield "has a pattern with a '[' that no ']' closes", "close it, or write '[[]' for the character"
    elif _NOTHING in fnmatch.translate(normal(glob)):
        yield "has a pattern with a range that nothing is in", "write its lower end first, as in '[a-z]'"


_CLASS = re.compile(r"\[!?(?:\][^\]]*|[^\]]+)\]")
"""A set of characters in a pattern."""
_NOTHING = "(?!)"
"""What matches nothing."""


def model_of(call: Any) -> Any:
    """The name of the model that a call is about to be sent to, which may be no text; None where it has none."""
    model, read = call.outgoing().get("model"), getattr(call.codec, "read_model", None)
    if read is not None:  # of an API where an object may name one
        model = read(model)
    return call.request.model if model is None else model
