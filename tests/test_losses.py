"""What was lost is told in words that fit the count, by whoever lost it."""

import re
import threading
from pathlib import Path

import pytest

from spanrelay._guard import Losses
from spanrelay.report import counted

SOURCE = Path(__file__).parents[1] / "src" / "spanrelay"


@pytest.mark.parametrize(
    ("count", "reason", "told"),
    [
        (2, "spans not written before exit", "2 spans not written before exit"),
        (1, "spans not written before exit", "1 span not written before exit"),
        (1, "failures while recording metrics", "1 failure while recording metrics"),
        (1, "trajectories not rendered", "1 trajectory not rendered"),
        (1, "trajectory operations not written", "1 trajectory operation not written"),
    ],
)
def test_one_loss_is_told_in_the_singular(count: int, reason: str, told: str) -> None:
    assert counted(count, reason) == told


def test_the_noun_of_every_reason_is_its_first_word_in_s() -> None:
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    reasons = re.findall(r'losses\.add\(\s*f?"([^"{][^"]*)"', text)
    nouns = {next(word for word in reason.split() if word.endswith("s")) for reason in reasons}
    assert nouns == {
        *(
            "answers",
            "calls",
            "events",
            "failures",
            "fields",
            "files",
            "findings",
            "lines",
            "operations",
            "parts",
            "payloads",
        ),
        *("hooks", "points", "records", "requests", "sessions", "spans", "trajectories", "waits"),
    }


def test_what_a_thread_loses_apart_is_its_own_and_all_else_is_counted_as_ever() -> None:
    lost = Losses()
    with lost.apart() as mine:
        lost.add("open spans forgotten")
        other = threading.Thread(target=lost.add, args=("spans not written", 2))
        other.start()
        other.join()
    lost.add("open spans forgotten", 3)
    assert (mine, lost.take()) == ({"open spans forgotten": 1}, {"spans not written": 2, "open spans forgotten": 3})


def test_what_is_lost_apart_is_counted_where_the_work_fails() -> None:
    lost = Losses()
    with pytest.raises(ValueError, match="full"), lost.apart():
        lost.add("open spans forgotten")
        raise ValueError("full")
    assert lost.take() == {"open spans forgotten": 1}
