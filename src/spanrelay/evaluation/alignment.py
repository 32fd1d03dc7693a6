"""Which items of one list belong to which of another: the same ones first, then those that are alike, in order.

Pure. No pair crosses another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TypeVar

T = TypeVar("T")
Pair = tuple[T | None, T | None]
Key = Callable[[T], Hashable]

MOST_COMPARISONS = 4_000_000
"""Of items by one key; beyond, which takes seconds, they are paired by their places."""


def aligned(left: Sequence[T], right: Sequence[T], keys: Sequence[Key[T]]) -> Iterator[Pair[T]]:
    """Yield the items as pairs, in order; None stands for what the other list has not.

    Those with the same first key are paired first, of the rest between them those with the same second, and so on.
    """
    if not keys:
        yield from ((item, None) for item in left)
        yield from ((None, item) for item in right)
        return
    key, *others = keys
    mine, yours = [key(item) for item in left], [key(item) for item in right]
    if _comparisons(mine, yours) > MOST_COMPARISONS:
        yield from zip_longest(left, right)
        return
    for tag, begin, end, start, stop in SequenceMatcher(None, mine, yours, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from zip(left[begin:end], right[start:stop], strict=True)
        else:
            yield from aligned(left[begin:end], right[start:stop], others)


def _comparisons(left: list[Hashable], right: list[Hashable]) -> int:
    seen = Counter(right)
    return sum(count * seen[key] for key, count in Counter(left).items())
