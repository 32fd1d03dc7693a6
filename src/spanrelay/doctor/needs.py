"""Which packages record what is installed here, or what a file of requirements asks for.

Names only are read from such files: what they would install is the installer's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.instrumentation.bootstrap_gen import libraries
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from spanrelay.errors import ConfigurationError
from spanrelay.instrumentation import foreign
from spanrelay.providers import FRAMEWORKS, SDKS

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


class Need(NamedTuple):
    """A package that is there, the distributions that record it, and those of them that are not."""

    package: str
    version: str
    recorded_by: tuple[str, ...]
    missing: tuple[str, ...]


class Double(NamedTuple):
    """What `opentelemetry-bootstrap` would install for a package that is recorded by ours.

    Attributes:
        distribution: Its name, with the version that would be installed where that says one.
        ours: What records the same calls.
        name: Its entry point.
        left_out: Whether SpanRelay leaves its spans out by itself.
    """

    distribution: str
    ours: str
    name: str
    left_out: bool


_PARTS = {"botocore": "boto3"}
"""Instrumentation that records more than calls of models, by the package whose calls of models are among it."""


def installed() -> dict[str, str]:
    """Return the versions of what is installed in this environment, by canonical name."""
    return {canonicalize_name(dist.name): dist.version for dist in metadata.distributions() if dist.name}


def needs(there: dict[str, str]) -> list[Need]:
    """Return what is known of the packages in `there`, versions by canonical name, which may be empty."""
    found: list[Need] = []
    for package, distributions in _table():
        version = there.get(canonicalize_name(package))
        if version is not None:
            missing = tuple(each for each in distributions if canonicalize_name(each) not in there)
            found.append(Need(package, version, distributions, missing))
    return found


def doubles(found: Iterable[Need]) -> Iterator[Double]:
    """Yield what `opentelemetry-bootstrap`, which has one table and takes no other packages into it, would add."""
    ours = {need.package: need.recorded_by[0] for need in found}
    for distribution in dict.fromkeys(row["instrumentation"] for row in libraries):
        name = Requirement(distribution).name.removeprefix("opentelemetry-instrumentation-").replace("-", "_")
        package = foreign.package_of(f"opentelemetry.instrumentation.{name}") or ""
        known = ours.get(_PARTS.get(package, package))
        if known is not None:
            yield Double(distribution, known, package, package not in _PARTS)


def _table() -> Iterator[tuple[str, tuple[str, ...]]]:
    for sdk in SDKS:
        if sdk.ours is not None:
            yield sdk.package, _together(sdk.ours)
    for framework in FRAMEWORKS:
        yield framework.package, (framework.instrumentor,)


def _together(ours: str) -> tuple[str, ...]:
    """Return an instrumentor with those that its extra has beside it, as LangChain's is beside LangGraph's."""
    extra = ours.removeprefix("spanrelay-")
    found: list[str] = []
    for text in metadata.requires("spanrelay") or []:
        requirement = Requirement(text)
        marker = requirement.marker  # another may be of a version of Python, whatever the extra
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            found.append(requirement.name)
    return tuple(found) if ours in found else (ours,)


# ── files


def named_in(path: Path) -> dict[str, str]:
    """Return the packages that a file names: a list of requirements, `uv.lock`, `poetry.lock` or `pyproject.toml`.

    Raises:
        ConfigurationError: it cannot be read, or is none of these.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"{str(path)!r} cannot be read: {why}") from error
    if path.suffix not in (".toml", ".lock"):
        return dict(_of_lines(text.splitlines(), path, (path.resolve(),)))
    try:
        content = tomllib.loads(text)
        return dict(_of_lock(content) if "package" in content else _of_project(content))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{str(path)!r} is not TOML: {error}") from error
    except (AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is not a uv.lock, a poetry.lock or a pyproject.toml; a list of requirements ends in .txt"
        ) from error


def _of_lines(lines: Iterable[str], path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Yield what lines of a requirements file name, and those of files that it includes."""
    for line in lines:
        line = re.sub(r"(?:^|\s)#.*", "", line).strip().rstrip("\\").strip()
        included = re.match(r"(?:-r|--requirement|-c|--constraint)[ =]*(\S+)", line)
        if included is not None and not line.startswith(("-c", "--constraint")):
            other = path.parent / included[1]
            if other.resolve() not in above and other.is_file():
                yield from _of_lines(other.read_text("utf-8").splitlines(), other, (*above, other.resolve()))
        elif line and not line.startswith("-"):
            yield from _of_requirement(re.split(r"\s--hash", line)[0])


def _of_requirement(text: str) -> Iterator[tuple[str, str]]:
    try:
        requirement = Requirement(text.strip())
    except InvalidRequirement:
        return
    pins = [each.version for each in requirement.specifier if each.operator == "=="]
    yield canonicalize_name(requirement.name), pins[0] if pins else ""


def _of_lock(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for package in content["package"]:
        if isinstance(package, dict) and isinstance(package.get("name"), str):
            yield canonicalize_name(package["name"]), str(package.get("version", ""))


def _of_project(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    project = content.get("project", {})
    lists = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
    lists += content.get("dependency-groups", {}).values()
    for text in (each for some in lists for each in some if isinstance(each, str)):
        yield from _of_requirement(text)
    poetry = content.get("tool", {}).get("poetry", {})
    groups = [poetry, *poetry.get("group", {}).values()]
    for name in (name for group in groups for name in group.get("dependencies", {})):
        yield canonicalize_name(name), ""
