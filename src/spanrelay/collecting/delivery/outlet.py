"""What sessions tell of the documents that they write, for all targets that those are delivered to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from spanrelay._voice import say
from spanrelay.assembly.sinks import remove_unwritten, stems
from spanrelay.collecting.delivery.courier import PACE, Bag, Courier, Figures
from spanrelay.collecting.delivery.journal import Journal
from spanrelay.collecting.delivery.letters import Letters
from spanrelay.collecting.delivery.targets import Target
from spanrelay.exporters.outbox import Pace

PLACE = ".spanrelay-delivery"
"""The folder beneath the documents' for what is not delivered, a folder in it for each target."""
_JOURNAL, _LETTERS = "waiting", "dead-letters"


class Outlet:
    """Delivers what some sessions write. Used from the thread of those.

    A document is begun before it is written or removed, and settled after that. It is not sent meanwhile, so that what
    counts as delivered is what is there.
    """

    def __init__(self, bags: Iterable[tuple[Courier, Bag]]) -> None:
        self._bags = list(bags)
        self._begun: dict[tuple[Courier, str], tuple[Bag, int]] = {}
        for courier, bag in self._bags:
            for name, state in bag.letters.names():  # what was refused is tried once more at each start
                if name not in bag.journal.waiting:
                    bag.journal.note(name, removed=state > 1)
            for name, state in list(bag.journal.waiting.items()):
                courier.add(bag, name, state)

    def begin(self, name: str, *, removed: bool = False, is_medium: bool = False) -> None:
        """Hear that a document, or a medium, is about to be written or removed.

        Raises:
            OSError: that cannot be written down, so nothing should be done.
        """
        for courier, bag in self._bags:
            if not is_medium or courier.target.takes_media:
                courier.withdraw(bag, name)
                self._begun[courier, name] = bag, bag.journal.waiting.get(name, 1)
                self._begun[courier, name] = bag, bag.journal.note(name, removed=removed)

    def settle(self) -> None:
        """Hear that what was begun has been done, or has failed."""
        for (courier, name), (bag, state) in self._begun.items():
            courier.add(bag, name, state)
        self._begun.clear()

    def close(self) -> None:
        """Leave what waits to whoever opens it next."""
        for courier, bag in self._bags:
            courier.drop(bag)
            bag.journal.close()


class Deliveries:
    """The targets of a process.

    Args:
        folder: Where documents are.
        targets: Where they go as well.
        pace: Pauses between attempts.
    """

    def __init__(self, folder: Path, targets: Sequence[Target] = (), pace: Pace = PACE) -> None:
        self._folder = folder
        self._couriers = [Courier(each, pace) for each in targets]

    def outlet(self, part: str) -> Outlet:
        """Return what delivers the documents of a part: no other has it open at the same time."""
        return Outlet((each, self._bag(each, part)) for each in self._couriers)

    def _bag(self, courier: Courier, part: str) -> Bag:
        place = self._folder / PLACE / next(stems(courier.target.name)) / part
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (place, place / _LETTERS):
            remove_unwritten(folder)
        return Bag(self._folder, Journal(place / _JOURNAL), Letters(place / _LETTERS))

    @property
    def figures(self) -> dict[str, Figures]:
        """What became of what was to be delivered, by the name of the target."""
        return {each.target.name: each.figures for each in self._couriers}

    def close(self) -> None:
        """Send what waits, for a moment, and end."""
        for each in self._couriers:
            if waiting := each.close():
                say(f"{waiting} documents wait for {each.target.name}: the next start of this command sends them")
        self._couriers.clear()
