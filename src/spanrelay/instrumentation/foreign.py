"""Other people's instrumentation of a package that ours is in force for: found by its tracers, and stood down.

Only spans are left out, and only while our patches are in force; nothing of theirs is undone, and policy never depends
on them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider, _TracerConfig

_log = logging.getLogger("spanrelay")

_SCOPE = re.compile(r"(?:openinference|opentelemetry)\.instrumentation\.(?:genai\.)?([a-z0-9_]+?)(?:_v2)?(?:\.|$)")
"""Names that OpenInference, OpenTelemetry and OpenLLMetry give their tracers; the group is the package."""

_NATIVE = {"pydantic-ai": "pydantic_ai_slim"}
"""Names that packages give tracers of their own, and the distribution whose calls those record."""

_SERVED = {"bedrock": "boto3"}
"""What others call what they record of a distribution, where that is a part of it."""

_ASIDE = frozenset({"langchain"})
"""Packages whose spans others make in callbacks, beside the call: none is current while ours goes on."""

_covered: set[str] = set()
_watched: dict[int, TracerProvider] = {}
_told: set[str] = set()


def cover(package: str) -> None:
    """Say that our patches of a distribution are in force, so that nobody else need record its calls."""
    _covered.add(_key(package))
    _ask_again()


def uncover(package: str) -> None:
    """Say that they are no longer in force; spans of others come back."""
    _covered.discard(_key(package))
    _ask_again()


def stand_down(provider: TracerProvider) -> Callable[[], None]:
    """Leave out spans that others make at `provider` of what ours is in force for, now and later.

    What the user's own tracer configurator says of any other tracer holds. Returns what ends it.
    """
    # Private, as everything of tracer configurators is until OpenTelemetry calls them stable.
    theirs = provider._tracer_configurator

    def configure(scope: Any) -> _TracerConfig:
        return _TracerConfig(is_enabled=False) if stands_down(scope.name) else theirs(scope)

    provider._set_tracer_configurator(tracer_configurator=configure)
    _watched[id(provider)] = provider

    def undo() -> None:
        _watched.pop(id(provider), None)
        if provider._tracer_configurator is configure:
            provider._set_tracer_configurator(tracer_configurator=theirs)

    return undo


def stands_aside(package: str) -> bool:
    """Whether a call that ours records is left out by the SDK itself, which asks for each: its other spans stay."""
    return bool(_watched) and _key(package) in _covered


def tells_again(scope: str) -> bool:
    """Whether model calls that the tracer `scope` records are recorded by ours too, which cannot fill its spans."""
    found = _SCOPE.match(scope)
    return found is not None and found[1] in _ASIDE and found[1] in _covered


def _ask_again() -> None:
    for provider in list(_watched.values()):
        provider._set_tracer_configurator(tracer_configurator=provider._tracer_configurator)


def stands_down(scope: str) -> bool:
    """Whether what the instrumentation of this name records is left out, since ours is in force for the same."""
    package = package_of(scope)
    if package is None or package not in _covered:
        return False
    if scope not in _told:
        _told.add(scope)
        _log.warning(
            "%r and SpanRelay both record calls of %s; its spans are left out, so that each call is recorded once; "
            "SPANRELAY_FOREIGN_SPANS=keep keeps them",
            scope,
            package,
        )
    return True


def package_of(scope: str) -> str | None:
    """Return the package that a tracer of this name records calls of; None where it is not one that stands down."""
    found = _SCOPE.match(scope)
    return _NATIVE.get(scope) if found is None else _SERVED.get(found[1], found[1])


def _key(package: str) -> str:
    return package.lower().replace("-", "_").removesuffix("_core")  # langchain-core is LangChain to others
