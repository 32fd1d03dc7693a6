"""What was learned of prompts, kept for other processes and for later ones: digests and counts, never what was said.

Each process adds what it has counted since it last did, and takes over what all have counted: on a thread of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.plugins.exchanging import Exchange, Place
from spanrelay.plugins.prompt_cache.memory import REMEMBERED, Memory, Odds, Scaffold

VERSION = 1
KEPT_SCAFFOLDS = 512
"""The most that are kept, those that were used last."""
Numbers = dict[str, list[float]]


class Learned(Exchange):
    """What a memory shares with those of other processes.

    Args:
        memory: Of this process.
        place: Where it is kept.
        lock: Returns what guards the memory now: a forked child has another.
    """

    def __init__(self, memory: Memory, place: Place, lock: Callable[[], threading.Lock]) -> None:
        super().__init__(place, "prompt caches")
        self._memory, self._lock = memory, lock
        self._base: Numbers = {}

    def _take_over(self, data: bytes | None) -> None:
        told = document_in(data)
        with self._lock():
            self._take(told, {})

    def _swap(self) -> None:
        made: list[tuple[dict[str, Any], Numbers]] = []

        def change(data: bytes | None) -> bytes:  # may be asked again, where others were faster
            made[:] = [self._merged(data)]
            return _json.dumps(made[0][0])

        self._place.change(change)
        with self._lock():
            self._take(*made[0])

    def _merged(self, data: bytes | None) -> tuple[dict[str, Any], Numbers]:
        """Return what all know together with what is new here, and the numbers here that it was made of."""
        document = document_in(data)
        numbers: Numbers = document["numbers"]
        with self._lock():
            here = _numbers_in(self._memory)
            for scaffold in self._memory.scaffolds.values():
                told = {"api": scaffold.api, "model": scaffold.model, "used": time.time()}
                document["scaffolds"][scaffold.digest] = told
        for key, now in here.items():
            if key.startswith("ratio "):
                numbers[key] = now
                continue
            none = [0.0] * len(now)
            sums = zip(numbers.get(key, none), now, self._base.get(key, none), strict=True)
            new = [stored + mine - before for stored, mine, before in sums]
            numbers[key] = new if key.startswith("account ") else _counts(new)
        _forget_oldest(document)
        return document, here

    def _take(self, document: Mapping[str, Any], since: Numbers) -> None:
        """Make the memory say what the document does, and what was counted `since`; under the lock."""
        memory, numbers = self._memory, cast("Numbers", document["numbers"])
        known = _scaffolds_in(memory)
        for digest, told in document["scaffolds"].items():
            if digest not in known:
                known[digest] = memory.recalled[digest] = Scaffold(digest, told["api"], told["model"])
        for key in (key for key in numbers if key.startswith("account ")):
            _, api, model = key.split(" ", 2)
            memory.account(api, model)
        now = _numbers_in(memory)

        def found(key: str) -> list[float] | None:
            if (told := numbers.get(key)) is None:
                return None
            here = now.get(key, [0.0] * len(told))
            return [each + mine - was for each, mine, was in zip(told, here, since.get(key, here), strict=True)]

        for key, odds in _odds_in(memory, known).items():
            if (counts := found(key)) is not None:
                odds.asked, odds.soon, odds.later = map(int, _counts(counts))
        for (api, model), account in memory.accounts.items():
            if (sums := found(f"account {api} {model}")) is not None:
                account.sent, account.net, answers = sums
                account.answers = int(answers)
            if (ratio := numbers.get(f"ratio {api} {model}")) is not None and ratio[0] > 0:
                account.tokens_per_character = ratio[0]
        self._base = numbers


def memory_of(data: bytes | None) -> Memory:
    """Return what a document says, as what a process knows that has not asked anything yet."""
    memory = Memory()
    Learned(memory, cast("Any", None), threading.Lock)._take(document_in(data), {})
    return memory


def _odds_in(memory: Memory, scaffolds: Mapping[str, Scaffold]) -> dict[str, Odds]:
    found = {f"all {name}": odds for name, odds in memory.general().items()}
    for digest, scaffold in scaffolds.items():
        found.update({f"{digest} {name}": odds for name, odds in scaffold.sorts().items()})
    return found


def _scaffolds_in(memory: Memory) -> dict[str, Scaffold]:
    return {**memory.recalled, **{each.digest: each for each in memory.scaffolds.values()}}


def _numbers_in(memory: Memory) -> Numbers:
    odds = _odds_in(memory, _scaffolds_in(memory))
    numbers: Numbers = {key: [each.asked, each.soon, each.later] for key, each in odds.items() if each.asked}
    for (api, model), account in memory.accounts.items():
        numbers[f"account {api} {model}"] = [account.sent, account.net, account.answers]
        numbers[f"ratio {api} {model}"] = [account.tokens_per_character]
    return numbers


def _counts(numbers: list[float]) -> list[float]:
    """Return counts that can be: of each no less than of what is counted within it, and old ones for less."""
    if len(numbers) != 3:
        return numbers
    asked, soon, later = (max(0, round(each)) for each in numbers)
    while asked >= REMEMBERED:
        asked, soon, later = asked // 2, soon // 2, later // 2
    return [asked, min(soon, later, asked + 1), min(later, asked + 1)]


def document_in(data: bytes | None) -> dict[str, Any]:
    """Return the document in some bytes; an empty one where they hold nothing that this version has written."""
    empty: dict[str, Any] = {"version": VERSION, "scaffolds": {}, "numbers": {}}
    try:
        told = _json.loads(data) if data else None
    except ValueError:
        return empty
    if not isinstance(told, dict) or cast("Any", told).get("version") != VERSION:
        return empty
    found = cast("dict[str, Any]", told)
    if not isinstance(found.get("scaffolds"), dict) or not isinstance(found.get("numbers"), dict):
        return empty
    scaffolds = {digest: each for digest, each in found["scaffolds"].items() if _is_scaffold(each)}
    numbers = {key: each for key, each in found["numbers"].items() if _are_numbers(key, each)}
    return {"version": VERSION, "scaffolds": scaffolds, "numbers": numbers}


def _is_scaffold(told: Any) -> bool:
    return isinstance(told, dict) and all(isinstance(cast("Any", told).get(key), str) for key in ("api", "model"))


def _are_numbers(key: str, told: Any) -> bool:
    if not isinstance(told, list) or len(cast("list[Any]", told)) != (1 if key.startswith("ratio ") else 3):
        return False
    if key.startswith(("account ", "ratio ")) and key.count(" ") < 2:
        return False
    return all(type(each) in (int, float) and math.isfinite(each) for each in cast("list[Any]", told))


def _forget_oldest(document: dict[str, Any]) -> None:
    scaffolds = document["scaffolds"]
    for digest in sorted(scaffolds, key=lambda each: scaffolds[each].get("used", 0.0))[:-KEPT_SCAFFOLDS]:
        del scaffolds[digest]
        for name in Scaffold("").sorts():
            document["numbers"].pop(f"{digest} {name}", None)
