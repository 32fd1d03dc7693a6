"""The files that say which plugins are in force: where they may be, who put them there, and which of them are read.

Nothing is read here but whether there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from spanrelay.config.values import absolute, path

Origin: TypeAlias = Literal["system", "chosen", "directory", "user", "declarative"]
"""Who put a policy file there: the machine's owner, whoever set `SPANRELAY_CONFIG`, nobody knows, or the user.

A declarative one is the file of `OTEL_CONFIG_FILE`; its section `distribution: spanrelay:` says what the others say.
"""

SYSTEM_FILE = "/etc/spanrelay/spanrelay.toml"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that says which plugins are in force."""

    path: str
    origin: Origin


def policy_files(chosen: str = "", environment: Mapping[str, str] | None = None) -> list[PolicyFile]:
    """Return the files that say which plugins are in force, the highest first.

    The system's; the first that there is of `chosen`, `./spanrelay.toml` and the user's; and that of
    `OTEL_CONFIG_FILE` where it speaks of us. What may be there but cannot be looked at is listed too, so that reading
    it fails; only a user's folder may be out of reach.
    """
    return [place.file for place in policy_places(chosen, environment) if not place.why_not]


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """Where a policy file may be: who names it, the file, and why it is not read, or "" where it is."""

    name: str
    file: PolicyFile
    why_not: str


def policy_places(chosen: str = "", environment: Mapping[str, str] | None = None) -> list[PolicyPlace]:
    """Return every place that `policy_files` looks at, in its order."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    # Settings that are made in code may name none, and whoever starts the program named it for all that it does.
    named = environment.get("SPANRELAY_CONFIG", "")
    chosen = absolute(chosen) if chosen else path(named) if named.strip() else ""
    nearest = [
        PolicyPlace("SPANRELAY_CONFIG", PolicyFile(chosen, "chosen"), "" if chosen else _UNSET),
        _found("the working directory", PolicyFile(absolute("spanrelay.toml"), "directory"), os.path.lexists),
        _found("the user", PolicyFile(f"{home}/spanrelay/spanrelay.toml", "user"), os.path.lexists),
    ]
    declarative = environment.get("OTEL_CONFIG_FILE", "")
    file = PolicyFile(declarative and absolute(declarative), "declarative")
    silent = "" if declarative and _speaks_of_us(declarative) else "does not mention spanrelay"
    return [
        _found("the machine", PolicyFile(SYSTEM_FILE, "system"), _may_exist),
        *_first_only(nearest),
        PolicyPlace("OTEL_CONFIG_FILE", file, silent if declarative else _UNSET),
    ]


_UNSET = "not set"


def _found(name: str, file: PolicyFile, exists: Callable[[str], bool]) -> PolicyPlace:
    return PolicyPlace(name, file, "" if exists(file.path) else "not there")


def _first_only(places: list[PolicyPlace]) -> Iterator[PolicyPlace]:
    """Yield places of which only the first that there is counts."""
    first: PolicyPlace | None = None
    for place in places:
        passed = first is not None and not place.why_not
        yield replace(place, why_not=f"not read, since {first.name} has one") if first and passed else place
        first = first or (None if place.why_not else place)


def _speaks_of_us(path: str) -> bool:
    """Whether a declarative configuration may have a section of ours; one that cannot be read is the SDK's affair."""
    try:
        with open(path, "rb") as file:
            return b"spanrelay" in file.read()
    except OSError:
        return False


def _may_exist(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
