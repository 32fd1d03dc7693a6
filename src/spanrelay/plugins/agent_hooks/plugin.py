"""The plugin `agent_hooks`: a host for interceptors of AGENT-HOOKS-0.1, such as engines for Cedar and Rego.

What no interceptor permits is refused, also where one breaks, is late, or gives no verdict.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.middleware import Middleware
from spanrelay.plugins.agent_hooks.host import PACKAGE, Host
from spanrelay.plugins.plugin import Context, Diagnostic

Point: TypeAlias = Literal[
    "agent_startup",
    "input",
    "pre_model_call",
    "post_model_call",
    "pre_tool_call",
    "post_tool_call",
    "output",
    "agent_shutdown",
]
"""The interception points of AGENT-HOOKS-0.1, section 3."""
Profile: TypeAlias = Literal["sequential/first_deny", "sequential/run_all", "parallel/strictest", "parallel/unanimous"]
"""How several verdicts become one: its composition profiles, section 7."""


@dataclass(slots=True)
class InterceptorConfig:
    """One of `[[plugins.agent_hooks.interceptors]]`.

    Attributes:
        factory: `module:name` of a class or function that makes the interceptor; the module is installed, or stands
            beside the file.
        config: What it is called with, by name.
        at: The points that it is asked at; by default all eight.
    """

    factory: str
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    at: list[Point] = field(default_factory=lambda: list[Point](get_args(Point)))


@dataclass(slots=True)
class AgentHooksConfig:
    """The keys of `[plugins.agent_hooks]`.

    Attributes:
        interceptors: Who is asked, in this order.
        profile: How their verdicts become one.
        timeout: Seconds that each of them may take; then its verdict is a deny.
    """

    interceptors: list[InterceptorConfig] = field(default_factory=list[InterceptorConfig])
    profile: Profile = "sequential/first_deny"
    timeout: float = 5.0


class AgentHooksPlugin:
    """Asks interceptors of AGENT-HOOKS-0.1, which may refuse or rewrite calls of agents, models and tools."""

    name = "agent_hooks"
    config_model = AgentHooksConfig

    def __init__(self) -> None:
        self._entries: set[Middleware] = set()

    def validate(self, config: AgentHooksConfig) -> list[Diagnostic]:
        """Find a package that is missing, and interceptors that cannot be asked."""
        found: list[Diagnostic] = []
        if find_spec(PACKAGE) is None:
            found.append(Diagnostic(f"needs the package {PACKAGE!r}", "pip install 'spanrelay[agent-hooks]'"))
        if not config.interceptors:
            found.append(
                Diagnostic("is missing", "write a [[plugins.agent_hooks.interceptors]] with a factory", "interceptors")
            )
        for number, each in enumerate(config.interceptors):
            key = f"interceptors[{number}]"
            if not re.fullmatch(r"[\w.]+:[\w.]+", each.factory):
                found.append(Diagnostic("names no factory", 'write "module:name"', f"{key}.factory"))
            if not each.at:
                found.append(Diagnostic("is an empty list", "name a point, or remove the key for all", f"{key}.at"))
        if not (math.isfinite(config.timeout) and 0 < config.timeout <= 600):
            found.append(Diagnostic("is out of its range", "write seconds, above 0 and at most 600", "timeout"))
        return found

    def register(self, context: Context) -> None:
        """Make the interceptors, and ask them from now on."""
        config: AgentHooksConfig = context.config
        emitter = _emitter_of(config, os.path.dirname(context.file))
        points = {point for each in config.interceptors for point in each.at}
        # The emitter waits for one after the other; what blocks its loop is given up by the pipeline.
        host = Host(emitter, points, context.name, self._entries, config.timeout * len(config.interceptors) + 1)
        before = len(context.entries)
        for entry in host.middleware():
            context.use(entry)
        own = [entry for entry in context.entries[before:] if isinstance(entry, Middleware)]
        self._entries.update(own)
        context.on_close(lambda: self._entries.difference_update(own))


def _emitter_of(config: AgentHooksConfig, folder: str) -> Any:
    """Return the package's emitter with what `config` names.

    Raises:
        ConfigurationError: an interceptor cannot be made.
    """
    package: Any = import_module(PACKAGE)
    profiles = package.CompositionConfig
    made = {
        "sequential/first_deny": profiles.first_deny,
        "sequential/run_all": profiles.run_all,
        "parallel/strictest": profiles.strictest,
        "parallel/unanimous": profiles.unanimous,
    }
    # Nobody reads its records here, and the digests in them cost most of a verdict.
    emitter = package.InterceptionEmitter(
        timeout=config.timeout, composition=made[config.profile](), identity_provider=None
    ).set_max_records(1)
    for number, each in enumerate(config.interceptors):
        emitter.register(_made(each, folder, f"interceptors[{number}]"), name=each.factory, at=each.at)
    return emitter


def _made(config: InterceptorConfig, folder: str, key: str) -> Any:
    """Return an interceptor; nothing of its configuration is quoted.

    Raises:
        ConfigurationError: it cannot be made, or is none.
    """
    module, _, path = config.factory.partition(":")
    try:
        with _importable(folder):
            factory: Any = import_module(module)
            for name in path.split("."):
                factory = getattr(factory, name)
            interceptor = factory(**config.config)
    except Exception as error:
        raise ConfigurationError(
            f"{key}: {config.factory!r} makes no interceptor: it raised {type(error).__name__}"
        ) from error
    if not callable(getattr(interceptor, "intercept", None)):
        raise ConfigurationError(
            f"{key}: {config.factory!r} makes a {type(interceptor).__name__!r}, which has no intercept(context)"
        )
    return interceptor


@contextmanager
def _importable(folder: str) -> Generator[None]:
    """Let modules beside the file be found, after all others: a program's own are not there yet when it starts."""
    sys.path.append(folder or os.curdir)
    try:
        yield
    finally:
        sys.path.remove(folder or os.curdir)
