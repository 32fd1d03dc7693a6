"""Changes of records carried over to the wire they were read from, so that what did not change survives.

Never mutates what it is given: every function returns the old object where nothing changed, else a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from spanrelay.records import Message, ToolDefinition

Record = TypeVar("Record")


def patch_sequence(
    old: Sequence[Record],
    new: Sequence[Record],
    wire: list[Any],
    *,
    patch: Callable[[Record, Record, Any], list[Any]],
    build: Callable[[Record], list[Any]],
    alike: Callable[[Record, Record], bool],
) -> list[Any]:
    """Return `wire`, whose items were read one by one into `old`, changed so that it reads as `new`.

    Records that did not change keep their wire item. A changed one is given to `patch` with its old record
    and wire item where `alike` says that it is the old one changed; `build` writes the others anew. Both
    return the wire items that stand for the record.
    """
    if old == new:
        return wire
    if len(old) != len(wire):
        return [item for record in new for item in build(record)]
    out: list[Any] = []
    for before, after in pair(old, new, alike):
        if before is None:
            out.extend(build(new[after]))
        elif old[before] == new[after]:
            out.append(wire[before])
        else:
            out.extend(patch(old[before], new[after], wire[before]))
    return out


def pair(
    old: Sequence[Record], new: Sequence[Record], alike: Callable[[Record, Record], bool]
) -> list[tuple[int | None, int]]:
    """Return for each index of `new` the index in `old` it comes from, or None where it is an insertion."""
    start, end = common_ends(old, new)
    pairs: list[tuple[int | None, int]] = [(i, i) for i in range(start)]
    old_stop, new_stop = len(old) - end, len(new) - end
    if old_stop - start == new_stop - start:
        pairs += [(i if alike(old[i], new[i]) else None, i) for i in range(start, new_stop)]
    else:
        pairs += _pair_by_anchors(old, new, range(start, old_stop), range(start, new_stop), alike)
    return pairs + [(old_stop + i, new_stop + i) for i in range(end)]


def common_ends(old: Sequence[Record], new: Sequence[Record]) -> tuple[int, int]:
    """Return how many records at the start, and then at the end, are equal in both."""
    room = min(len(old), len(new))
    start = 0
    while start < room and old[start] == new[start]:
        start += 1
    end = 0
    while end < room - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return start, end


def _pair_by_anchors(
    old: Sequence[Record],
    new: Sequence[Record],
    old_range: range,
    new_range: range,
    alike: Callable[[Record, Record], bool],
) -> list[tuple[int | None, int]]:
    """Pair records that are equal, in order, and between those the ones that are alike."""
    pairs: list[tuple[int | None, int]] = []
    waiting: list[int] = []
    place = old_range.start
    for index in new_range:
        found = next((i for i in range(place, old_range.stop) if old[i] == new[index]), None)
        if found is None:
            waiting.append(index)
            continue
        pairs += _pair_between(old, new, range(place, found), waiting, alike)
        pairs.append((found, index))
        waiting, place = [], found + 1
    return pairs + _pair_between(old, new, range(place, old_range.stop), waiting, alike)


def _pair_between(
    old: Sequence[Record],
    new: Sequence[Record],
    free: range,
    waiting: list[int],
    alike: Callable[[Record, Record], bool],
) -> list[tuple[int | None, int]]:
    pairs: list[tuple[int | None, int]] = []
    place = free.start
    for index in waiting:
        found = next((i for i in range(place, free.stop) if alike(old[i], new[index])), None)
        pairs.append((found, index))
        place = place if found is None else found + 1
    return pairs


def overlay(wire: Mapping[str, Any], built: Mapping[str, Any], owned: frozenset[str]) -> dict[str, Any]:
    """Return `wire` with the values of `built`, in the order of `wire`, without `owned` keys `built` lacks.

    An object within an object is overlaid likewise.
    """
    out = {key: value for key, value in wire.items() if key in built or key not in owned}
    for key, value in built.items():
        before = out.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            out[key] = overlay(before, value, owned)
        else:
            out[key] = value
    return out


def put(out: dict[str, Any], key: str, value: Any) -> None:
    """Set `key` of `out`, or remove it where `value` is None."""
    if value is None:
        out.pop(key, None)
    else:
        out[key] = value


def same_tool(old: ToolDefinition, new: ToolDefinition) -> bool:
    """Whether two definitions are of one tool, changed or not."""
    return old.name == new.name and old.type == new.type


def same_class(old: object, new: object) -> bool:
    """Whether two parts are of one kind."""
    return type(old) is type(new)


def same_role(old: Message, new: Message) -> bool:
    """Whether two messages may be one message, changed."""
    return old.role == new.role
