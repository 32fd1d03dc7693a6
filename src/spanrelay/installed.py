"""What is installed beside us. Nothing is imported to find out."""

from __future__ import annotations


def version_of(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    from importlib import metadata  # slow to import, and rarely needed

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
