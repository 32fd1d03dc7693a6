"""The numbers at the head of a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spanrelay.view.facts import dollars


@dataclass(frozen=True, slots=True)
class Figure:
    """A number: what it counts, itself, a remark on it, and its class where it is bad news."""

    name: str
    value: str
    remark: str = ""
    kind: str = ""


def count(name: str, number: int, remark: str = "", kind: str = "") -> Figure:
    """Return a number of things."""
    return Figure(name, f"{number:,}", remark, kind)


def faults(name: str, number: int, kind: str = "error") -> Iterator[Figure]:
    """Yield a number of faults, where there are any."""
    if number:
        yield count(name, number, kind=kind)


def spending(
    prompt: int | None, cached: int | None, completion: int | None, cost: float | None, remark: str = ""
) -> Iterator[Figure]:
    """Yield tokens, the share of them that came from a cache, and cost, those that are known."""
    if prompt is not None:
        yield count("tokens in", prompt, f"{cached / prompt:.0%} cached" if cached and prompt else "")
    if completion is not None:
        yield count("tokens out", completion)
    if cost is not None:
        yield Figure("cost", dollars(cost), remark)
