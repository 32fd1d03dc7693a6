"""What is installed beside us. Nothing is imported to find out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def version_of(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    from importlib import metadata  # slow to import, and rarely needed

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def instrumentors() -> list[EntryPoint]:
    """Return the entry points of the installed instrumentors of ours."""
    from opentelemetry.util._importlib_metadata import entry_points  # slow to import, as above

    found = entry_points(group="opentelemetry_instrumentor")
    return sorted((each for each in found if each.value.startswith("spanrelay_")), key=lambda each: each.name)
