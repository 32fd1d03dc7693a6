"""Reads documents of versions of ATIF that came after this was written, for those who look at them.

What is not understood is set aside and said, never dropped: a field of a step in the step's `extra`, any other in the
document's, each by its place; a part of a message as its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from spanrelay import _json
from spanrelay.assembly.atif import VERSIONS, Trajectory, schema_violations

MEMBER = "not_understood"
"""Of an `extra`: what was set aside, by its place."""

_VERSION = re.compile(r"ATIF-v(\d{1,6})\.(\d{1,6})")
_PLACE = re.compile(r"\.(\w+)|\[(\d+)\]")
_OF_STEP = re.compile(r"(.*\.steps\[\d+\])\.(.*)", re.DOTALL)
_OF_PART = re.compile(r"(.*\.(?:message|content)\[\d+\]).*", re.DOTALL)
_ROUNDS = 8
"""What is set aside may uncover what else is not understood, not for ever."""


def read(document: Any) -> Trajectory:
    """Read a document of a known version, or what is understood of one of a later version, with a note that says so.

    Args:
        document: JSON; it is left as it is.

    Raises:
        AtifError: the document breaks the schema in a way that no later version explains.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, str) or not _is_newer(version):
        return Trajectory.from_json(document)
    known = _json.copied(document)
    aside: dict[str, Any] = {}
    for each in _documents(known):
        each["schema_version"] = VERSIONS[-1]
    for _ in range(_ROUNDS):
        faults = [fault.partition(": ") for fault in schema_violations(known)]
        for place, _, wrong in faults:
            _set_aside(known, place, wrong, aside)
        if not faults:
            break
    found = Trajectory.from_json(known)
    _keep(found, aside)
    found.notes = "\n".join(each for each in (*_notes(version, aside), found.notes) if each)
    return found


def _notes(version: str, aside: Mapping[str, Any]) -> Iterator[str]:
    yield f"{version} is newer than {VERSIONS[-1]}, the last version that is known here"
    of_steps = {found[1] for place in aside if (found := _OF_STEP.fullmatch(place))}
    if of_steps:
        yield f"{len(of_steps)} of its steps have what is not understood, in their `extra`"
    for place, value in aside.items():
        if not _OF_STEP.fullmatch(place):
            yield f"not understood: {place} = {_json.dumps_text(value)}"


def _is_newer(version: str) -> bool:
    def number(text: str) -> tuple[int, ...] | None:
        found = _VERSION.fullmatch(text)
        return None if found is None else tuple(map(int, found.groups()))

    return (number(version) or (0,)) > (number(VERSIONS[-1]) or (0,))


def _documents(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        embedded = document.get("subagent_trajectories")
        for each in embedded if isinstance(embedded, list) else ():
            yield from _documents(each)


def _set_aside(document: Any, place: str, wrong: str, aside: dict[str, Any]) -> None:
    """Take what is at a place out of a document, or put something there that is understood."""
    of_part = _OF_PART.fullmatch(place)
    if of_part is not None:
        place = of_part[1]
    if _PLACE.sub("", place) != "$":
        return  # a name that cannot be followed; reading says what is wrong
    *above, last = [name or int(number) for name, number in _PLACE.findall(place)]
    parent = document
    try:
        for each in above:
            parent = parent[each]
        if wrong.startswith("is missing"):
            if last == "message":
                parent[last] = ""
        elif of_part is not None:
            said = _json.dumps_text(parent[last])
            parent[last] = {"type": "text", "text": f"not understood: {said}"}
        elif last == "source":
            aside[place], parent[last] = parent[last], "system"
        elif isinstance(last, str):
            aside[place] = parent.pop(last)
    except (LookupError, TypeError, AttributeError):
        return  # nothing stands there; as above


def _keep(found: Trajectory, aside: dict[str, Any]) -> None:
    """Put what was set aside into the `extra` of the step that it is of, or of the document."""
    places = {f"$.steps[{at}]": step for at, step in enumerate(found.steps)}
    for place, value in aside.items():
        of_step = _OF_STEP.fullmatch(place)
        owner = (places.get(of_step[1]) if of_step is not None else None) or found
        name = of_step[2] if of_step is not None and owner is not found else place
        owner.extra = {**(owner.extra or {})}
        kept = owner.extra.setdefault(MEMBER, {})
        if isinstance(kept, dict):
            kept[name] = value
