"""What was lost is told in words that fit the count."""

import re
from pathlib import Path

import pytest

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
