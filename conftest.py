"""What every test shares: the capture of spans, policy in force, and the rule that a swallowed error fails the test."""

import pytest
from hypothesis import HealthCheck, settings

from spanrelay_testkit.capture import (
    capture,
    nobody_is_trusted,
    only_what_tests_make_is_collected,
    policy,
    swallowing_fails_the_test,
)

__all__ = ["capture", "nobody_is_trusted", "only_what_tests_make_is_collected", "policy", "swallowing_fails_the_test"]

# The same examples in each run, and none fails because the machine is busy.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose name has an address in it: processes that share the tests have to name them alike."""
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"{named[0]}: give it an id; what its parameter prints differs in each process")
