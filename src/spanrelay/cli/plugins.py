"""List the installed plugins, and judge or show what the configuration files ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TextIO

from opentelemetry.util._importlib_metadata import EntryPoint

from spanrelay import config
from spanrelay.cli.outline import Branch, Piece
from spanrelay.cli.printing import print_outline
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Component, Plan, make_plan, without_secrets
from spanrelay.plugins.files import Layer
from spanrelay.plugins.loading import Shelf, installed, load
from spanrelay.plugins.unguarded import unguarded

ACTIONS = {
    "list": "list the installed plugins",
    "validate": "say what is wrong in the configuration files",
    "show": "show what the configuration files put in force, in order",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `plugins` takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, summary in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary)
        if name != "list":
            action.add_argument(
                "file",
                nargs="?",
                default="",
                metavar="FILE",
                help="as if SPANRELAY_CONFIG named it (default: the files a program started here would read)",
            )


def run(options: argparse.Namespace) -> int:
    """Do one of `ACTIONS`; returns 1 when anything is wrong."""
    if options.action == "list":
        return list_installed()
    files = config.policy_files(options.file or config.load()[0].config_file)
    plan = make_plan(files, Shelf())
    return judge(plan, files) if options.action == "validate" else show(plan)


def list_installed() -> int:
    """Print a line for each installed plugin, with what is wrong with it."""
    faulty = False
    for name, entry_points in installed().items():
        line, fault = _described(name, entry_points)
        print(line)
        faulty = faulty or fault
    return 1 if faulty else 0


def _described(name: str, entry_points: list[EntryPoint]) -> tuple[str, bool]:
    if len(entry_points) > 1:
        values = ", ".join(entry_point.value for entry_point in entry_points)
        return f"{name}: several plugins have this name: {values}; uninstall all but one", True
    plugin, problem = load(entry_points[0])
    if problem is not None:
        return f"{name}: {problem}", True
    summary = (type(plugin).__doc__ or "").strip().partition("\n")[0]
    return f"{name} ({_origin(entry_points[0])}): {summary}", False


def _origin(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    return entry_point.value if distribution is None else f"{distribution.name} {distribution.version}"


def judge(plan: Plan, files: list[PolicyFile]) -> int:
    """Print what is wrong, or which files are well."""
    for diagnostic in plan.diagnostics:
        print(f"{diagnostic.level}: {diagnostic}")
    _warn_of_unguarded(plan, sys.stdout)
    if not plan.errors:
        print(", ".join(f"{file.path}: valid" for file in files) or "no configuration file")
    return 1 if plan.errors else 0


def show(plan: Plan) -> int:
    """Print each file with the plugins it puts in force and their settings, the highest file first."""
    for layer in plan.layers:
        print_outline(_tree(layer, plan.components), sys.stdout)
    for diagnostic in plan.diagnostics:
        print(f"{diagnostic.level}: {diagnostic}", file=sys.stderr)
    _warn_of_unguarded(plan, sys.stderr)
    return 1 if plan.errors else 0


def _warn_of_unguarded(plan: Plan, out: TextIO) -> None:
    """Say which installed SDKs would pass by what the files ask for."""
    for each in unguarded() if plan.components else ():
        print(f"warning: {each}", file=out)


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
