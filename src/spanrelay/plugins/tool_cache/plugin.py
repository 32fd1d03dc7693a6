"""The plugin `tool_cache`: tools that a file names are not run again for the same arguments.

What no rule names runs each time: only its author knows whether a tool gives the same again, and does nothing else.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

from spanrelay import _json
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.response_cache.cache import Cache
from spanrelay.plugins.response_cache.entries import Entry, Unkept
from spanrelay.plugins.response_cache.keys import VERSION, Bypassed
from spanrelay.plugins.response_cache.plugin import stand
from spanrelay.plugins.response_cache.settings import CacheConfig, doubts_about, doubts_about_numbers, open_store
from spanrelay.plugins.response_cache.stores import Store
from spanrelay.records import ToolResult


@dataclass(slots=True)
class ToolRule:
    """A tool that may be answered: how long its results hold, and which arguments do not matter.

    Attributes:
        ttl_seconds: How old a result may be.
        version: Results that were kept under another are never given.
        ignore_arguments: Names of arguments that make no difference, as an id of the request.
    """

    ttl_seconds: float = 3600.0
    version: str = "1"
    ignore_arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class ToolCacheConfig(CacheConfig):
    """The keys of `[plugins.tool_cache]`, beside those of `CacheConfig`.

    Attributes:
        tools: Rules by name; in it `*` stands for anything. A tool's own name comes first, then the longest pattern.
    """

    tools: dict[str, ToolRule] = field(default_factory=dict[str, ToolRule])


class ToolCachePlugin:
    """Answers in the place of tools.

    Args:
        clock: Seconds since the epoch.
    """

    name = "tool_cache"
    config_model = ToolCacheConfig

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def validate(self, config: ToolCacheConfig) -> list[Diagnostic]:
        """Find a table that names no tool, or all of them, and figures out of their range."""
        found = doubts_about(config)
        if not config.tools:
            found.append(Diagnostic("is empty", "name a tool: [plugins.tool_cache.tools.NAME]", "tools"))
        for name, rule in config.tools.items():
            key = f"tools.{name}"
            found += [Diagnostic(each.message, each.remedy, f"{key}.{each.key}") for each in _doubts(rule)]
            if not name.strip("*?"):
                found.append(Diagnostic("matches every tool", "name those that only read", key))
        return found

    def register(self, context: Context) -> None:
        """Stand next to the execution of tools, and around everything else."""
        config: ToolCacheConfig = context.config
        applies = config.mode == "apply" and context.mode == "enforce"
        store = open_store(config, self._clock, applies=applies)
        context.on_close(store.close)
        ranked = sorted(config.tools.items(), key=lambda each: ("*" in each[0], -len(each[0])))
        caches = [
            (re.compile(fnmatch.translate(name)), self._cache(store, config, rule, applies)) for name, rule in ranked
        ]

        def cache_of(call: Any) -> Cache | None:
            name = call.record.tool.name
            return next((cache for pattern, cache in caches if pattern.match(name)), None)

        def remember(call: Any) -> Generator[Any, Any, Any]:
            cache = cache_of(call)
            return (yield call) if cache is None else (yield from cache.remember(call))

        def answer(call: Any) -> Generator[Any, Any, Any]:
            cache = cache_of(call)
            return (yield call) if cache is None else (yield from cache.answer(call))

        stand(context, "tool", remember, answer, config.max_wait_seconds)

    def _cache(self, store: Store, config: ToolCacheConfig, rule: ToolRule, applies: bool) -> Cache:
        return Cache(
            store,
            lambda call: _key_of(call, config.namespace, rule),
            _entry_of,
            lambda _, entry: ToolResult(entry.body),
            ttl_seconds=rule.ttl_seconds,
            max_wait_seconds=config.max_wait_seconds,
            applies=applies,
            clock=self._clock,
        )


def _doubts(rule: ToolRule) -> list[Diagnostic]:
    return doubts_about_numbers(rule, "ttl_seconds")


def _key_of(call: Any, namespace: str, rule: ToolRule) -> bytes:
    """Return the digest of a tool and of the arguments that matter.

    Raises:
        Bypassed: they are not plain JSON.
    """
    arguments = call.outgoing()
    if isinstance(arguments, Mapping):
        given = cast("Mapping[str, Any]", arguments)
        arguments = {name: value for name, value in given.items() if name not in rule.ignore_arguments}
    if not _is_plain(arguments):
        raise Bypassed("not_json")
    said = ["tool", VERSION, namespace, call.record.tool.name, rule.version, arguments]
    try:
        return blake2b(_json.dumps_canonical(said), digest_size=32).digest()
    except TypeError:
        raise Bypassed("not_json") from None


def _entry_of(call: Any, response: Any, now: float) -> Entry:
    """Return what is kept of a result: JSON that the program has just got, so that it gets the same again.

    Raises:
        Unkept: it is an error, or an object of a class.
    """
    told = getattr(call.boundary, "given_again", None)  # of a framework that wraps what its tools give
    gave = response.native if told is None else told(response.native)
    if response.arrived is not None or not _is_plain(gave):
        raise Unkept("not_json")
    if response.record.is_error or _says_error(gave):
        raise Unkept("error")
    return Entry(now, None, gave)


def _says_error(value: Any) -> bool:
    """Whether a result says of itself that the tool failed."""
    told = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
    return bool(told.get("error") or told.get("isError") or told.get("is_error"))


def _is_plain(value: Any) -> bool:
    """Whether JSON has a form for a value, and nothing of it is an object of a class."""
    if type(value) is dict:
        members = cast("dict[Any, Any]", value)
        return all(type(name) is str and _is_plain(each) for name, each in members.items())
    if type(value) is list:
        return all(map(_is_plain, cast("list[Any]", value)))
    return value is None or type(value) in (str, int, bool) or (type(value) is float and value - value == 0)
