"""Every recorded exchange with Gemini goes through the real SDK once more, in every way."""

from __future__ import annotations

import pytest
from tests.shared_data import SHARED, needs_shared

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.conformance.suite import plan
from spanrelay_testkit.conformance.trial import tried, tried_run, ways_of

PLAN = plan(SHARED and SHARED / "traffic")
PAIRS = [pair for pair in PLAN.pairs if pair[0].sdk == "google-genai"]
RUNS = [pair for pair in PLAN.runs if pair[0].sdk == "google-genai"]

pytestmark = [
    needs_shared,
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


@pytest.mark.parametrize(("driver", "exchange"), [pytest.param(*pair, id=pair[1].id) for pair in PAIRS])
async def test_caller_and_provider_see_nothing_of_us_and_the_records_say_what_was_said(
    driver: Driver, exchange: Exchange
) -> None:
    for way in ways_of(driver):
        assert (await tried(driver, exchange, way)).complaints == []


@pytest.mark.parametrize(("driver", "run"), [pytest.param(*pair, id=pair[1][0].id) for pair in RUNS])
async def test_a_recorded_run_is_one_trajectory(driver: Driver, run: list[Exchange]) -> None:
    assert (await tried_run(driver, run)).complaints == []
