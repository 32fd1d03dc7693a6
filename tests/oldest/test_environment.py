"""Calls and patch points with the oldest SDKs that are supported, and patch points with the newest of providers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.oldest.environments import ENVIRONMENTS, Environment
from tests.own_environment import apart, run_tests_of
from tests.provider_environment import beside_other_sdks, providers

PLACES = Path(__file__).with_name("test_patch_points.py")
oldest = apart("anthropic", "SPANRELAY_TEST_OLDEST", python=((3, 11), (3, 13)))
each_environment = pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda each: each.name)


@oldest
@each_environment
def test_every_patch_point_is_there_with_the_oldest_sdks(environment: Environment) -> None:
    run_tests_of(environment.programs(), PLACES)


@oldest
@pytest.mark.parametrize(
    ("environment", "calls"),
    [(environment, calls) for environment in ENVIRONMENTS for calls in environment.calls],
    ids=lambda each: each.name if isinstance(each, Environment) else Path(each[0]).parts[-3],
)
def test_calls_of_the_oldest_sdks_are_recorded(environment: Environment, calls: tuple[str, ...]) -> None:
    run_tests_of(environment.programs(), *calls)


@beside_other_sdks("anthropic")
def test_every_patch_point_is_there_with_the_newest_sdks() -> None:
    run_tests_of(providers(), PLACES)
