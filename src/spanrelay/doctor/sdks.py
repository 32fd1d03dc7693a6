"""Which SDKs and frameworks are installed, and whether an instrumentor is in force for each, or why not.

None is imported in this process: what is wrong with it would be wrong with the doctor.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

from opentelemetry.instrumentation.dependencies import get_dependency_conflicts
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.doctor import importing
from spanrelay.doctor.findings import Case, Finding, Level
from spanrelay.installed import instrumentors, version_of
from spanrelay.instrumentation import foreign
from spanrelay.providers import FRAMEWORKS, SDK, SDKS


class Other(NamedTuple):
    """Somebody else's instrumentor: its entry point, its distribution, and the tracer that it records with."""

    name: str
    package: str
    scope: str


def sdks(case: Case) -> Iterator[Finding]:
    """Say of each SDK that is installed who records it."""
    found = [(sdk, version) for sdk in SDKS if (version := version_of(sdk.package)) is not None]
    if not found:
        yield Finding(
            "warn",
            "no SDK of a model provider and no framework that SpanRelay knows is installed in this environment",
            "a program that asks models otherwise is recorded only where it says so itself",
            "run the doctor by the Python of the program, or see docs/frameworks.md",
        )
    ours, others = _ours(), _others()
    frameworks = [(each, version) for each in FRAMEWORKS if (version := version_of(each.package)) is not None]
    modules = [each.module for each, _ in (*found, *frameworks) if _is_there(each.module)]
    faults = importing.import_faults(modules, case.environment)
    for sdk, version in found:
        if sdk.module in faults:
            yield _broken("warn" if sdk.shared else "fail", sdk.package, version, faults[sdk.module])
            continue
        yield from _of(case, sdk, version, ours.get(sdk.package, []), others.get(canonicalize_name(sdk.package), []))
    for framework, version in frameworks:
        if framework.module in faults:
            yield _broken("fail", framework.package, version, faults[framework.module])
        else:
            yield _of_framework(framework.package, version, framework.instrumentor)


def _of_framework(package: str, version: str, instrumentor: str) -> Finding:
    there = version_of(instrumentor)
    if there is not None:
        return Finding("pass", f"{package} {version} is recorded by {instrumentor} {there}")
    return Finding(
        "warn",
        f"{package} {version} is not recorded itself: {instrumentor} is not installed",
        "models that it asks by an SDK above are recorded, and its agents and tools are not",
        f"pip install {instrumentor}",
    )


def _broken(level: Level, package: str, version: str, fault: str) -> Finding:
    return Finding(
        level,
        f"{package} {version} cannot be imported: {fault}",
        "a program that imports it fails",
        f"pip check says which packages are missing or do not fit; pip install --force-reinstall {package}",
    )


def _ours() -> dict[str, list[tuple[EntryPoint, Any]]]:
    """Return our instrumentors, or what loading one raises, by the package that each is for."""
    found: dict[str, list[tuple[EntryPoint, Any]]] = {}
    for entry in instrumentors():
        try:
            instrumentor = entry.load()()
            found.setdefault(instrumentor.package, []).append((entry, instrumentor))
        except Exception as error:
            pass_on(error)
            for sdk in SDKS:
                if entry.dist is not None and sdk.ours == entry.dist.name:
                    found.setdefault(sdk.package, []).append((entry, error))
    return found


def _others() -> dict[str, list[Other]]:
    """Return other people's instrumentors by the packages that they say they are for."""
    found: dict[str, list[Other]] = {}
    for entry in entry_points(group="opentelemetry_instrumentor"):
        if entry.value.startswith("spanrelay_") or entry.dist is None:
            continue
        for package in _packages(entry.dist.requires or []):
            found.setdefault(package, []).append(Other(entry.name, entry.dist.name, entry.value.partition(":")[0]))
    return found


def _packages(requirements: list[str]) -> Iterator[str]:
    """Yield the packages that a distribution instruments, by what it requires for its extra of that name."""
    for text in requirements:
        if "instruments" in text:
            try:
                yield canonicalize_name(Requirement(text).name)
            except InvalidRequirement:
                continue


def _of(
    case: Case, sdk: SDK, version: str, ours: list[tuple[EntryPoint, Any]], others: list[Other]
) -> Iterator[Finding]:
    named = f"{sdk.package} {version}"
    if not _is_there(sdk.module):
        yield Finding(
            "warn",
            f"{named} is said to be installed, and its module {sdk.module!r} is not there",
            "a program that imports it fails",
            f"pip install --force-reinstall {sdk.package}",
        )
        return
    missing = _missing(case, sdk, named, ours, others)
    if missing is not None:
        yield missing
        return
    yield Finding("pass", f"{named} is recorded by {sdk.ours} {version_of(sdk.ours or '')}")
    yield from (_beside(case, named, sdk, other) for other in others if not _is_off(case, other.name))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _missing(
    case: Case, sdk: SDK, named: str, ours: list[tuple[EntryPoint, Any]], others: list[Other]
) -> Finding | None:
    """Return why nothing of ours is in force for an SDK; None where something is."""
    if not ours:
        return _without(sdk, named, others)
    entry, instrumentor = ours[0]
    if isinstance(instrumentor, Exception):
        return Finding(
            "fail",
            f"{named} is not recorded: {sdk.ours} cannot be loaded: {type(instrumentor).__name__}: {instrumentor}",
            "nothing of it is recorded, and policy does not hold for it",
            f"pip install --force-reinstall {sdk.ours}",
        )
    if _is_off(case, entry.name):
        return Finding(
            "warn",
            f"{named} is not recorded: OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves {entry.name} out",
            "nothing of it is recorded, and policy does not hold for it",
            "take it out of OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        )
    conflict = get_dependency_conflicts(instrumentor.instrumentation_dependencies())
    if conflict is not None:
        return Finding(
            "fail",
            f"{named} is not recorded: {sdk.ours} needs {', '.join(instrumentor.requires)}",
            "nothing of it is recorded, and policy does not hold for it",
            f"pip install '{instrumentor.requires[0]}'",
        )
    return None


def _without(sdk: SDK, named: str, others: list[Other]) -> Finding:
    cure = f"pip install {sdk.ours}" if sdk.ours else "see docs/frameworks.md"
    if sdk.records_itself:
        cure += f"; {sdk.records_itself} lets it record itself"
    if others:
        by = ", ".join(other.package for other in others)
        return Finding("warn", f"{named} is recorded by {by} alone", "policy does not hold for it", cure)
    missing = "is not installed" if sdk.ours else "does not exist yet"
    return Finding(
        "warn" if sdk.shared else "fail",
        f"{named} is not recorded: {sdk.ours or 'an instrumentor'} {missing}",
        "nothing of it is recorded, and policy does not hold for it"
        + (", where the program asks models by it" if sdk.shared else ""),
        cure,
    )


def _beside(case: Case, named: str, sdk: SDK, other: Other) -> Finding:
    """Say what becomes of another instrumentor of the same SDK."""
    stands_down = foreign.package_of(other.scope) is not None
    if stands_down and case.settings.foreign_spans == "stand_down":
        return Finding(
            "pass", f"{other.package} instruments {sdk.package} too; its spans are left out, as each call is told once"
        )
    kept = "SPANRELAY_FOREIGN_SPANS=keep keeps its spans" if stands_down else "SpanRelay cannot leave its spans out"
    return Finding(
        "warn",
        f"{named} is instrumented by {other.package} too, and {kept}",
        "a call may be told twice",
        "take SPANRELAY_FOREIGN_SPANS out, or " * stands_down
        + f"set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={other.name}",
    )


def _is_off(case: Case, name: str) -> bool:
    return bool(config.disabled_instrumentations(case.environment) & {"*", name})
