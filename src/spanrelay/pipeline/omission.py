"""What an application leaves out of its own calls: middleware by name, for what runs in a block.

What a file has put in force stays, unless that file lets it be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextvars import Token
from types import TracebackType

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.middleware import Middleware, leaving_out, registered
from spanrelay.registry import visible
from spanrelay.scopes import current_scope


class without:
    """Leave middleware out of the calls of a block: `with without("cheaper"):`, or `async with`.

    It holds for what is called in the block and below it, also in tasks and threads that get its OpenTelemetry
    context, and for a stream that is begun there and read later. Only middleware is left out: what is recorded is
    redacted and told as before. What is put in force within the block runs.

    Args:
        names: Of middleware, as it is registered for the process or for a scope around the block; or of plugins,
            which stand for all their middleware, of whichever files.

    Raises:
        TypeError: no name is given, or one is not text.
        ConfigurationError: on entering: nothing of that name is in force here, which the message lists; or a file
            has put it in force and does not say `optional = true`. Nothing is left out then.
    """

    def __init__(self, *names: str) -> None:
        if not names or not all(isinstance(name, str) for name in names):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass functions
            raise TypeError("without() takes the names of what to leave out, as in without('prompt_cache')")
        self._names = names
        self._tokens: list[tuple[Context, Token[Context]]] = []

    def __enter__(self) -> without:
        inner = leaving_out(_chosen(self._names))
        self._tokens.append((inner, otel_context.attach(inner)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One object may be entered by several tasks at once: each leaves what it entered.
        here = otel_context.get_current()
        found = next((pair for pair in reversed(self._tokens) if pair[0] is here), self._tokens[-1])
        self._tokens.remove(found)
        otel_context.detach(found[1])

    async def __aenter__(self) -> without:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _chosen(names: Iterable[str]) -> list[Middleware]:
    """Return what `names` stand for.

    Raises:
        ConfigurationError: see `without`.
    """
    scope = current_scope()
    entries = visible((registered,) if scope is None else (registered, *scope.registries))
    chosen: list[Middleware] = []
    for name in names:
        meant = [entry for entry in entries if _is_called(entry, name)]
        if not meant:
            raise ConfigurationError(f"without({name!r}): nothing of that name is in force here; {_listed(entries)}")
        for entry in meant:
            _check_optional(entry, name)
        chosen += meant
    return chosen


def _is_called(entry: Middleware, name: str) -> bool:
    # A plugin that several files configure has a number from the second on.
    return name == entry.name or (
        entry.plugin != "" and re.fullmatch(rf"{re.escape(name)}(-\d+)?", entry.plugin) is not None
    )


def _check_optional(entry: Middleware, name: str) -> None:
    if entry.plugin and not entry.optional:
        raise ConfigurationError(
            f"without({name!r}): {entry.name!r} cannot be left out: a file has put the plugin {entry.plugin!r} in "
            "force; whoever answers for that file may write `optional = true` in the plugin's table"
        )


def _listed(entries: Iterable[Middleware]) -> str:
    names = sorted({entry.plugin or entry.name for entry in entries})
    return f"in force are {', '.join(map(repr, names))}" if names else "no middleware is"
