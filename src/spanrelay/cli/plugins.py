"""List the installed plugins, and check or show what the configuration files ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from opentelemetry.util._importlib_metadata import EntryPoint

from spanrelay._voice import say
from spanrelay.cli.configured import add_actions, planned
from spanrelay.cli.outline import Branch, Piece
from spanrelay.cli.printing import print_outline, print_table
from spanrelay.config import PolicyPlace
from spanrelay.plugins.activation import Component, Plan, without_secrets
from spanrelay.plugins.files import Layer
from spanrelay.plugins.loading import installed, load
from spanrelay.plugins.reading import joined
from spanrelay.plugins.unguarded import unguarded
from spanrelay.view.facts import plural, visible

ACTIONS = {
    "list": "list the installed plugins",
    "validate": "say which configuration files count and what is wrong in them",
    "show": "show what the configuration files put in force, in order",
}

EXAMPLES = (
    "spanrelay plugins list",
    "spanrelay plugins validate",
    "spanrelay plugins show spanrelay.toml",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `plugins` takes."""
    add_actions(parser, ACTIONS, bare=("list",))


def run(options: argparse.Namespace) -> int:
    """Do one of `ACTIONS`; returns 1 when anything is wrong."""
    plan, places = planned(options)
    if options.action == "validate":
        return validate(plan, places)
    return list_installed(plan) if options.action == "list" else show(plan)


def list_installed(plan: Plan) -> int:
    """Print a line for each installed plugin, with what is wrong with it."""
    rows = [_described(name, entry_points, plan) for name, entry_points in installed().items()]
    headings = ("name", "version", "from", "enabled", "what it does")
    print_table(headings, rows, sys.stdout, elastic=range(len(headings)))
    if plan.errors:
        sys.stdout.flush()
        say(f"{plural(len(plan.errors), 'error')} in the configuration files: `spanrelay plugins validate`")
    return 1 if any(row[3] == ERROR for row in rows) else 0


ERROR = "error"


def _described(name: str, entry_points: list[EntryPoint], plan: Plan) -> list[str]:
    """The row of a plugin: the last cell says what it does, or what is wrong with it."""
    version, origin = _origin(entry_points[0])
    if len(entry_points) > 1:
        values = ", ".join(entry_point.value for entry_point in entry_points)
        return [name, "", "", ERROR, f"several plugins have this name: {values}; uninstall all but one"]
    plugin, problem = load(entry_points[0])
    if problem is not None:
        return [name, version, origin, ERROR, visible(str(problem))]
    summary = (type(plugin).__doc__ or "").strip().partition("\n")[0]
    return [name, version, origin, _enabled(name, plan), visible(summary)]


def _enabled(name: str, plan: Plan) -> str:
    """Whether the configuration files switch a plugin on."""
    if any(name in layer.plugins and _is_wrong(layer.file, joined("plugins", name), plan) for layer in plan.layers):
        return ERROR
    found = [component for component in plan.components if component.plugin.name == name]
    if not found:
        return "no"
    return "on trial" if all(component.mode == "observe" for component in found) else "yes"


def _is_wrong(file: str, key: str, plan: Plan) -> bool:
    return any(error.file == file and (error.key + ".").startswith(f"{key}.") for error in plan.errors)


def _origin(entry_point: EntryPoint) -> tuple[str, str]:
    """The version and the name of what has installed a plugin."""
    distribution = entry_point.dist
    return ("", entry_point.value) if distribution is None else (distribution.version, distribution.name)


def validate(plan: Plan, places: list[PolicyPlace]) -> int:
    """Print where files were looked for, what is wrong in them, and what they put in force."""
    named = [(place.name, place.file.path, place.why_not) for place in places]
    listed = {path for _, path, why_not in named if not why_not}
    named += [("include", layer.file, "") for layer in plan.layers if layer.file not in listed]
    rows = [(name, path, why_not or _verdict(path, plan)) for name, path, why_not in named]
    print_table(("place", "file", "state"), rows, sys.stdout, elastic={0, 1, 2})
    for diagnostic in plan.diagnostics:
        print(f"{diagnostic.level}: {diagnostic}")
    _warn_of_unguarded(plan, print)
    print(_outcome(plan))
    return 1 if plan.errors else 0


def _verdict(path: str, plan: Plan) -> str:
    found = [diagnostic for diagnostic in plan.diagnostics if diagnostic.file == path]
    errors = sum(diagnostic.level == "error" for diagnostic in found)
    if errors:
        return plural(errors, "error")
    return f"valid, {plural(len(found), 'warning')}" if found else "valid"


def _outcome(plan: Plan) -> str:
    """What a program started here would have in force."""
    if plan.must_stop():
        return f"in force: nothing, a program would stop here: {plural(len(plan.errors), 'error')}"
    names = [f"{each.name} (on trial)" if each.mode == "observe" else each.name for each in plan.components]
    left_out = f"; left out: {plural(len(plan.errors), 'error')}" if plan.errors else ""
    return f"in force: {', '.join(names) or 'nothing'}{left_out}"


def show(plan: Plan) -> int:
    """Print each file with the plugins it puts in force and their settings, the highest file first."""
    for layer in plan.layers:
        print_outline(_tree(layer, plan.components), sys.stdout)
    for diagnostic in plan.diagnostics:
        say(f"{diagnostic.level}: {diagnostic}")
    _warn_of_unguarded(plan, say)
    return 1 if plan.errors else 0


def _warn_of_unguarded(plan: Plan, tell: Callable[[str], None]) -> None:
    """Say which installed SDKs would pass by what the files ask for."""
    for each in unguarded() if plan.components else ():
        tell(f"warning: {each}")


def _tree(layer: Layer, components: list[Component]) -> Branch:
    title: list[Piece] = [(layer.file, "title"), (f"  on failure: {layer.on_failure}", "quiet")]
    return Branch([title], [_branch(component) for component in components if component.layer is layer])


def _branch(component: Component) -> Branch:
    settings = [
        f"{key} = {without_secrets(_written(value), component.layer, component.config)}"
        for key, value in _settings(component.config)
    ]
    title = [(component.name, "tool"), *([("  on trial", "")] if component.mode == "observe" else [])]
    return Branch([title], [Branch([[(setting, "")]]) for setting in settings])


def _written(value: Any) -> str:
    return repr(str(value) if isinstance(value, Path) else value)


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """What is set in a config, by the path of its key; None and empty values are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _settings(getattr(value, field.name), f"{key}.{field.name}" if key else field.name)
    elif isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _settings(item, f"{key}.{name}")
    elif isinstance(value, list) and value and is_dataclass(value[0]):
        for at, item in enumerate(value):
            yield from _settings(item, f"{key}[{at}]")
    elif value not in (None, [], (), {}, ""):
        yield key, value
