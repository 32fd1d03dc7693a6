"""Puts in force what the configuration files ask for: all of it or nothing, and takes it out again.

No call is ever made between an old configuration and a new one, and no message holds a secret.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias, cast

from spanrelay._guard import losses
from spanrelay.config import PolicyFile
from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.middleware import Middleware
from spanrelay.plugins.demand import demand
from spanrelay.plugins.files import Layer, Mode, read_layers
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.plugin import Context, Diagnostic, Plugin, Secret
from spanrelay.plugins.reading import joined, read_model, read_partly
from spanrelay.registry import together

_log = logging.getLogger("spanrelay")

NEW_S = 0.1
"""Seconds for which a file that was written is taken for one that is still being written, when files are read again."""
PATIENCE_S = 5.0
"""Seconds that reading files again waits for them."""


@dataclass(slots=True)
class Component:
    """One table of one file: a plugin with its config. `name` is unique in a plan."""

    plugin: Plugin
    name: str
    layer: Layer
    config: Any
    enabled: bool = True
    mode: Mode = "enforce"
    optional: bool = False


@dataclass(slots=True)
class Plan:
    """What several files ask for, the highest first, and what is wrong with them."""

    layers: list[Layer]
    components: list[Component]
    diagnostics: list[Diagnostic]

    @property
    def errors(self) -> list[Diagnostic]:
        """What keeps a part of the plan from being in force."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.level == "error"]

    def must_stop(self) -> bool:
        """Whether an error is in a file that does not say `on_failure = "warn"`."""
        lenient = {layer.file for layer in self.layers if layer.on_failure == "warn"}
        return any(error.file not in lenient for error in self.errors)


Read: TypeAlias = Callable[[Sequence[PolicyFile]], tuple[list[Layer], list[Diagnostic]]]
"""Returns what files say, the highest first, and what is wrong."""


def make_plan(files: Sequence[PolicyFile], shelf: Shelf, read: Read = read_layers) -> Plan:
    """Read and validate `files`; nothing is put in force."""
    layers, diagnostics = read(files)
    plan = Plan(layers, [], diagnostics)
    told = {(diagnostic.file, diagnostic.key) for diagnostic in diagnostics}
    for layer in layers:
        for name, table in layer.plugins.items():
            component, found = _component(name, table, layer, shelf)
            # What a key holds that could not be filled from the environment is no second fault.
            plan.diagnostics.extend(each for each in found if (each.file, each.key) not in told)
            if component is not None:
                _add(plan, component)
    return plan


def _component(
    name: str, table: Mapping[str, Any], layer: Layer, shelf: Shelf
) -> tuple[Component | None, list[Diagnostic]]:
    key = joined("plugins", name)
    plugin, found = shelf.take(name)
    if plugin is None:
        return None, [replace(found[0], file=layer.file, key=key)]
    ours = _KEYS - getattr(plugin.config_model, "__dataclass_fields__", {}).keys()
    rest = {field: value for field, value in table.items() if field not in ours}
    switch, found = read_model(_Switch, {field: table[field] for field in ours & table.keys()}, key)
    config, misread = read_partly(plugin.config_model, rest, key, os.path.dirname(layer.file))
    found += misread
    if config is not None:
        found += _beside(misread, _validated(plugin, config, layer, key))
    if switch is not None and not switch.enabled:  # what it would do is nobody's concern; what is wrong is
        found = [diagnostic for diagnostic in found if diagnostic.level == "error"]
    found = [replace(diagnostic, file=layer.file) for diagnostic in found]
    if switch is None or config is None or any(diagnostic.level == "error" for diagnostic in found):
        return None, found
    return Component(plugin, name, layer, config, switch.enabled, switch.mode or layer.mode, switch.optional), found


@dataclass(slots=True)
class _Switch:
    """The keys that every plugin's table may have, unless they are the plugin's own."""

    enabled: bool = True
    mode: Mode | None = None
    optional: bool = False


_KEYS = frozenset(field.name for field in fields(_Switch))


def _beside(misread: list[Diagnostic], found: list[Diagnostic]) -> list[Diagnostic]:
    """Return of what a plugin has found that which no misread key, whose default it was shown, may have caused.

    A warning is about the whole table, as a rule.
    """
    return [
        each
        for each in found
        if not misread
        or (
            each.level == "error"
            and not any(_within(each.key, one.key) or _within(one.key, each.key) for one in misread)
        )
    ]


def _within(key: str, table: str) -> bool:
    return key == table or key.startswith((f"{table}.", f"{table}["))


def _validated(plugin: Plugin, config: Any, layer: Layer, key: str) -> list[Diagnostic]:
    try:
        found = list(plugin.validate(config) or ())
    except Exception as error:
        return [Diagnostic(f"cannot be validated: {_told(error, layer, config)}", _remedy(error), key)]
    return [
        replace(
            diagnostic,
            key=f"{key}.{diagnostic.key}" if diagnostic.key else key,
            message=without_secrets(diagnostic.message, layer, config),
        )
        for diagnostic in found
    ]


def _add(plan: Plan, component: Component) -> None:
    """Add a component; what a file above has switched on, it cannot switch off."""
    name = component.plugin.name
    above = [other for other in plan.components if other.plugin is component.plugin]
    if not component.enabled:
        if above:
            plan.diagnostics.append(
                Diagnostic(
                    f"enabled = false has no effect: {above[0].layer.file} switches it on",
                    "change it there",
                    joined("plugins", name),
                    "warning",
                    component.layer.file,
                )
            )
        return
    component.name = f"{name}-{len(above) + 1}" if above else name
    plan.components.append(component)


_activations: weakref.WeakSet[Activation] = weakref.WeakSet()


def _free_all() -> None:
    for activation in list(_activations):
        activation.free()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)


class Activation:
    """The plugins that some files have put in force.

    Args:
        files: The files, the highest first.
        shelf: Where plugins are loaded from.
        read: Returns what the files say.
    """

    def __init__(self, files: Sequence[PolicyFile], shelf: Shelf | None = None, read: Read = read_layers) -> None:
        self.files = tuple(files)
        self._read = read
        self.diagnostics: tuple[Diagnostic, ...] = ()
        """What was wrong or doubtful when the files were read last."""
        self.contexts: tuple[Context, ...] = ()
        """What is in force, in the order of registration."""
        self._shelf = shelf or Shelf()
        self.free()
        _activations.add(self)

    def free(self) -> None:
        """Take a lock that nobody holds: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Put everything in force.

        Raises:
            ConfigurationError: something cannot be; nothing is in force then. Where its file says
                `on_failure = "warn"` it is left out, logged and counted instead.
        """
        with self._lock:
            plan = make_plan(self.files, self._shelf, self._read)
            if plan.must_stop():
                raise _refusal(plan)
            self._take(plan, strictly=False)
            self._report(plan)

    def reload(self) -> None:
        """Read the files again and put what they say now in force instead; until then the old holds.

        A file that was written just now is read again until it no longer changes.

        Raises:
            ConfigurationError: something cannot be, whatever `on_failure` says; the old stays in force.
        """
        with self._lock:
            plan = self._settled()
            if plan.errors:
                raise _refusal(plan)
            self._take(plan, strictly=True)
            self._report(plan)
            if self is _current and demand.policy and not demand.held:
                from spanrelay.plugins.coverage import cover  # looks through what is installed

                cover()

    def _settled(self) -> Plan:
        """Return what the files say once none of them is new: the beginning of one that is being written reads well.

        Raises:
            ConfigurationError: one is written all the time.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            plan = make_plan(self.files, self._shelf, self._read)
            new = next((layer.file for layer in plan.layers if _is_new(layer.file)), None)
            if new is None:
                return plan
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{new!r} is written all the time; write another file and rename it")
            time.sleep(NEW_S / 4)

    def close(self) -> None:
        """Take everything out of force, the last registered first."""
        with self._lock:
            old, self.contexts = self.contexts, ()
            demand.policy = demand.stops = demand.stops_unguarded = demand.held = False
            with together():
                _withdraw(old)
            _close(old)

    def _take(self, plan: Plan, *, strictly: bool) -> None:
        """Replace what is in force; where that fails, what was in force has never left."""
        old = self.contexts
        with together():
            _withdraw(old)
            new = _install(plan)
            if plan.errors if strictly else plan.must_stop():
                _close(new)
                raise _refusal(plan)
        self.contexts, self.diagnostics = tuple(new), tuple(plan.diagnostics)
        lenient = {layer.file for layer in plan.layers if layer.on_failure == "warn"}
        policy = [context for context in new if _has_policy(context)]
        demand.policy, demand.stops = bool(policy), any(_must_hold(context, lenient) for context in policy)
        demand.stops_unguarded = any(context.stops_unguarded for context in new)
        _close(old)

    def _report(self, plan: Plan) -> None:
        for diagnostic in plan.diagnostics:
            _log.warning("%s", diagnostic)
        if plan.errors:
            losses.add("parts of the configured policy", len(plan.errors))


def _is_new(file: str) -> bool:
    """Whether somebody may still be writing a file."""
    try:
        return 0 <= time.time() - os.stat(file).st_mtime < NEW_S
    except OSError:  # it is gone, or has never been one
        return False


def _install(plan: Plan) -> list[Context]:
    """Register every component; one that fails is taken back, and told in the plan."""
    installed: list[Context] = []
    for component in plan.components:
        layer = component.layer
        context = Context(
            component.config,
            component.name,
            layer.file,
            component.mode,
            layer.place,
            optional=component.optional,
        )
        try:
            component.plugin.register(context)
        except Exception as error:
            context.close()
            plan.diagnostics.append(_failure(component, error))
        except BaseException:
            _close([*installed, context])
            raise
        else:
            installed.append(context)
    return installed


def _failure(component: Component, error: Exception) -> Diagnostic:
    told = _told(error, component.layer, component.config)
    key = joined("plugins", component.plugin.name)
    return Diagnostic(f"cannot be installed: {told}", _remedy(error), key, file=component.layer.file)


def _remedy(error: Exception) -> str:
    """What to do about an error in a plugin; one of ours says it itself."""
    return "" if isinstance(error, ConfigurationError) else "see the plugin's documentation"


def _withdraw(contexts: Sequence[Context]) -> None:
    for context in reversed(contexts):
        context.withdraw()


def _close(contexts: Sequence[Context]) -> None:
    for context in reversed(contexts):
        context.close()


def _has_policy(context: Context) -> bool:
    return context.stops_unguarded or any(isinstance(entry, Middleware) for entry in context.entries)


def _must_hold(context: Context, lenient: set[str]) -> bool:
    """Whether no call may escape what `context` has put in force: not where all of that is on trial."""
    enforced = context.stops_unguarded or any(
        isinstance(entry, Middleware) and not entry.on_trial for entry in context.entries
    )
    return enforced and context.file not in lenient


def _refusal(plan: Plan) -> ConfigurationError:
    lines = "".join(f"\n  {diagnostic}" for diagnostic in plan.diagnostics)
    return ConfigurationError(f"the configuration cannot be put in force:{lines}")


def _told(error: Exception, layer: Layer, config: Any) -> str:
    told = str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
    return without_secrets(told, layer, config)


def without_secrets(text: str, layer: Layer, config: Any) -> str:
    """Return `text` without anything that came from the environment or stands in a `Secret`."""
    for secret in sorted({*layer.secrets, *_secrets(config)}, key=len, reverse=True):
        if secret:
            text = text.replace(secret, "…")
    return text


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, Secret):
        yield value.reveal()
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _secrets(getattr(value, field.name))
    elif isinstance(value, dict):
        for item in cast("dict[Any, Any]", value).values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            yield from _secrets(item)


_current: Activation | None = None


def current_activation() -> Activation | None:
    """Return what the process's configuration files have put in force; `reload()` it to read them again."""
    return _current if _current is not None and _current.contexts else None


def install(files: Sequence[PolicyFile]) -> Activation:
    """Put in force what `files` ask for, for the whole process.

    Raises:
        ConfigurationError: see `Activation.start`.
    """
    global _current
    activation = Activation(files)
    activation.start()
    _current = activation
    return activation
