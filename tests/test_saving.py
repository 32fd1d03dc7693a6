"""What `docs/adaptive.md` claims of the plugin `prompt_cache`, on shorter forms of its workloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from benchmarks.prompts import Session, drawn, langgraph, workloads
from benchmarks.saving import MODELS, STRATEGIES, Clock, outcome, replayed, report
from hypothesis import given
from hypothesis import strategies as st
from tests.second_cache import History, Refused
from tests.shared_data import SHARED

from spanrelay_testkit.prompt_caching import Answered, CachingProvider, Prices, TooManyMarks

MODEL = "claude-sonnet-5"
WORKLOADS = workloads(MODEL)
PAGE = (Path(__file__).parents[1] / "docs" / "adaptive.md").read_text()


class Both(CachingProvider):
    """Two that read the rules apart, and agree on each request."""

    def __init__(self, prices: Prices, first_byte_s: float = 0.0) -> None:
        super().__init__(prices, first_byte_s)
        self.second = History(prices.minimum, first_byte_s)

    def ask(self, body: Mapping[str, Any], now: float) -> Answered:
        try:
            first = super().ask(body, now)
        except TooManyMarks:
            with pytest.raises(Refused):
                self.second.ask(body, now)
            raise
        assert (first.plain, first.read, dict(first.written)) == self.second.ask(body, now)
        return first


def cost(sessions: list[Session], strategy: str, model: str = MODEL) -> float:
    clock, prices = Clock(), MODELS[model]
    return outcome(sessions, prices, STRATEGIES[strategy](clock, prices), clock).cost


def shorter(name: str) -> list[Session]:
    """Some of the sessions; those that share nothing show what is lost at the start, so that there are more."""
    return WORKLOADS[name][: 150 if "nothing shared" in name else 30]


# --- the table ---


@pytest.mark.slow
@pytest.mark.parametrize("model", list(MODELS))
def test_the_page_has_the_table_that_is_printed(model: str) -> None:
    shown = workloads(model) if SHARED is None else {**workloads(model), **replayed(model)}
    assert report(model, MODELS[model], shown) in PAGE


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


@pytest.mark.parametrize("seed", range(0, 140, 7))
def test_what_it_loses_of_any_workload_is_two_percent_or_what_a_few_requests_cost(seed: int) -> None:
    sessions = drawn(seed, MODEL)
    calls = sum(len(session.bodies) for session in sessions)
    assert (cost(sessions, "prompt_cache") - 102) * calls / 100 <= 2.6


def test_an_agent_of_langgraph_costs_less_than_with_automatic_caching() -> None:
    sessions = langgraph(MODEL, sessions=3, rounds=4)
    assert [len(session.bodies) for session in sessions] == [5, 6, 7]
    assert cost(sessions, "prompt_cache") < cost(sessions, "automatic")


# --- the two simulated providers ---


@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("name", list(WORKLOADS))
def test_two_simulators_agree_on_each_request_of_a_workload(name: str, strategy: str) -> None:
    clock, prices = Clock(), MODELS[MODEL]
    sessions = [Session(one.start, one.bodies[:6], one.gaps) for one in WORKLOADS[name][:8]]
    outcome(sessions, prices, STRATEGIES[strategy](clock, prices), clock, Both)


_MARK = st.sampled_from([None, None, None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
_BLOCK = st.builds(
    lambda text, mark: (
        {"type": "text", "text": text} if mark is None else {"type": "text", "text": text, "cache_control": mark}
    ),
    st.sampled_from(["a", "b", "c" * 4000]),
    _MARK,
)
_MESSAGE = st.builds(lambda content: {"role": "user", "content": content}, st.lists(_BLOCK, min_size=1, max_size=9))
_BODY = st.builds(
    lambda system, messages, mark: {"model": "m", "system": system, "messages": messages, "cache_control": mark},
    st.lists(_BLOCK, max_size=2),
    st.lists(_MESSAGE, min_size=1, max_size=4),
    _MARK,
)


@given(st.lists(st.tuples(_BODY, st.sampled_from([0.5, 1.0, 100, 299, 300, 301, 3600])), min_size=1, max_size=8))
def test_two_simulators_agree_on_any_requests(requests: list[tuple[Any, float]]) -> None:
    provider, now = Both(Prices(1), 1.0), 0.0
    for body, pause in requests:
        now += pause
        try:
            provider.ask(body, now)
        except TooManyMarks:
            continue
