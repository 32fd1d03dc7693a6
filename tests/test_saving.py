"""What `docs/adaptive.md` claims of the plugin `prompt_cache`, on shorter forms of its workloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.saving import MODELS, STRATEGIES, Clock, Session, input_cost, report, workloads

MODEL = "claude-sonnet-5"
WORKLOADS = workloads(MODEL)


def cost(sessions: list[Session], strategy: str, model: str = MODEL) -> float:
    clock = Clock()
    return input_cost(sessions, MODELS[model], STRATEGIES[strategy](clock), clock)


def shorter(name: str) -> list[Session]:
    """Some of the sessions; those that share nothing show what is lost at the start, so that there are more."""
    return WORKLOADS[name][: 150 if "nothing shared" in name else 30]


@pytest.mark.slow
def test_the_page_has_the_table_that_is_printed() -> None:
    assert report() in (Path(__file__).parents[1] / "docs" / "adaptive.md").read_text()


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_it_costs_hardly_more_than_no_cache_and_than_automatic_caching(name: str) -> None:
    sessions = shorter(name)
    ours = cost(sessions, "prompt_cache")
    assert ours <= 102
    assert ours <= cost(sessions, "automatic") + 1


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("support bot, 6 k scaffold, 200 sessions of 3 calls", 20),
        ("fan-out, 10 sub-agents at once, 8 k scaffold", 20),
        ("parallel tools, 24 to 40 blocks a turn", 90),
        ("people answer after 6 to 20 minutes, 10 turns", 80),
        ("one-shot questions on a 6 k system prompt", 100),
    ],
)
def test_it_saves_where_automatic_caching_does_not(name: str, points: float) -> None:
    sessions = shorter(name)
    assert cost(sessions, "prompt_cache") < cost(sessions, "automatic") - points
