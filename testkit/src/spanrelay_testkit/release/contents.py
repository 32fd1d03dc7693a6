"""Looks into built distributions: all of the package is there, typed and licensed, and nothing else."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator

from packaging.metadata import ExceptionGroup, Metadata

from spanrelay_testkit.release.building import Built

_OF_A_SDIST = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "hatch_build.py", ".gitignore", "src"}
"""What a source distribution has at its top."""


def faults_of(built: Built) -> list[str]:
    """Return what is wrong with the files of a distribution, each with its name."""
    faults = [f"{built.wheel.name}: {fault}" for fault in _of_wheel(built)]
    return faults + [f"{built.sdist.name}: {fault}" for fault in _of_sdist(built)]


def _of_wheel(built: Built) -> Iterator[str]:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        told = wheel.read(f"{info}/METADATA")
    package = {name for name in names if not name.startswith(f"{info}/")}
    yield from (f"lacks {name}" for name in sorted(built.project.files - package))
    yield from (f"has {name}, which is not a file of the package" for name in sorted(package - built.project.files))
    if f"{built.project.package.name}/py.typed" not in package:
        yield f"lacks {built.project.package.name}/py.typed, so that nobody sees its types"
    if not any(name.startswith(f"{info}/licenses/") for name in names):
        yield "has no licence"
    yield from _of_metadata(told)


def _of_metadata(told: bytes) -> Iterator[str]:
    try:
        metadata = Metadata.from_email(told)
    except ExceptionGroup as errors:
        yield from (str(error) for error in errors.exceptions)
        return
    for name in ("summary", "description", "requires_python", "license_expression"):
        if not getattr(metadata, name):
            yield f"says no {name}"
    for required in metadata.requires_dist or ():
        if required.url is not None:
            yield f"asks for what stands at an address: {required}"


def _of_sdist(built: Built) -> Iterator[str]:
    with tarfile.open(built.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    yield from (f"has {name}" for name in sorted({name.partition("/")[0] for name in names} - _OF_A_SDIST))
    yield from (f"lacks src/{name}" for name in sorted(built.project.files) if f"src/{name}" not in names)
