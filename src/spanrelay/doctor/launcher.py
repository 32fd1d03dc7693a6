"""Which launcher, distro and configurator a program started here would have: OpenTelemetry takes the first it meets."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points

from spanrelay._guard import pass_on
from spanrelay.doctor.findings import Case, Finding

LAUNCHER = "opentelemetry-instrument"


def path_of_launcher(case: Case) -> Path | None:
    """Return the file that `opentelemetry-instrument` starts here; None where there is none."""
    found = shutil.which(LAUNCHER, path=case.environment.get("PATH"))
    return Path(found) if found is not None else None


def launcher(case: Case) -> Iterator[Finding]:
    """Look at which launcher the shell would take."""
    beside = Path(sys.executable).parent
    found = path_of_launcher(case)
    if found is None:
        yield Finding(
            "warn",
            f"{LAUNCHER} is not on the PATH",
            "a program is recorded only if it is started with it, or calls spanrelay.activate()",
            f"activate the virtual environment, or start with {beside / LAUNCHER}",
        )
    elif not is_same(found.parent, beside):
        yield Finding(
            "warn",
            f"{LAUNCHER} on the PATH is {found}, that of another environment than this Python's",
            "it starts programs in an environment that may have neither SpanRelay nor their SDKs",
            f"activate the virtual environment of {sys.executable}, or start with {beside / LAUNCHER}",
        )
    else:
        yield Finding("pass", f"{LAUNCHER} is {found}")


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def distro(case: Case) -> Iterator[Finding]:
    """Look at which distro and configurator win."""
    chosen = case.environment.get("OTEL_PYTHON_DISTRO")
    entries = list(entry_points(group="opentelemetry_distro"))
    found, broken = _first(entries, chosen, _is_distro)
    if broken is not None:
        yield broken
        return
    if found is None:
        listed = ", ".join(entry.name for entry in entries) or "none"
        yield Finding(
            "fail",
            f"no distro is loaded: OTEL_PYTHON_DISTRO={chosen!r} is not installed; installed: {listed}",
            "SpanRelay's defaults are not set, and another configurator than its own may build the exporters",
            "OTEL_PYTHON_DISTRO=spanrelay, or take the variable out",
        )
    elif _is_ours(found):
        others = ", ".join(entry.name for entry in entries if not _is_ours(entry))
        yield Finding("pass", f"the distro is SpanRelay's{f'; installed beside it: {others}' if others else ''}")
    else:
        yield Finding(
            "warn",
            f"the distro is {_named(found)}, not SpanRelay's",
            "trajectories and policy are in force all the same; OTLP is sent by another exporter, which keeps nothing "
            "while the collector is away",
            "OTEL_PYTHON_DISTRO=spanrelay",
        )
    yield from _configurator(case, ours=found is not None and _is_ours(found))


def _configurator(case: Case, *, ours: bool) -> Iterator[Finding]:
    chosen = case.environment.get("OTEL_PYTHON_CONFIGURATOR", "spanrelay" if ours else None)
    entries = list(entry_points(group="opentelemetry_configurator"))
    found, broken = _first(entries, chosen, _is_anything)
    if broken is not None:
        yield broken
    elif found is None:
        listed = ", ".join(entry.name for entry in entries) or "none"
        yield Finding(
            "fail",
            f"no configurator is loaded: OTEL_PYTHON_CONFIGURATOR={chosen!r} is not installed; installed: {listed}",
            "nobody builds the exporters, so that no span is sent",
            "OTEL_PYTHON_CONFIGURATOR=spanrelay, or take the variable out",
        )
    elif not _is_ours(found):
        yield Finding(
            "warn",
            f"the configurator is {_named(found)}, not SpanRelay's",
            "it builds OpenTelemetry's own exporters, which lose what a collector does not take at once",
            "OTEL_PYTHON_CONFIGURATOR=spanrelay",
        )


def _first(entries: list[EntryPoint], chosen: str | None, fits: Any) -> tuple[EntryPoint | None, Finding | None]:
    """Return the entry point that the launcher takes, or what it says of one that cannot be loaded."""
    for entry in entries:
        if chosen in (None, entry.name):
            try:
                if fits(entry.load()):
                    return entry, None
            except Exception as error:
                pass_on(error)
                return None, Finding(
                    "fail",
                    f"{_named(entry)} cannot be loaded: {type(error).__name__}: {error}",
                    "the launcher gives up there, and the program runs without any instrumentation",
                    "reinstall that package, or uninstall it",
                )
    return None, None


def _is_distro(loaded: Any) -> bool:
    return isinstance(loaded, type) and issubclass(loaded, BaseDistro)


def _is_anything(loaded: Any) -> bool:
    return True


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith("spanrelay.")


def _named(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else entry.value
    return f"{entry.name!r} of {package}"
