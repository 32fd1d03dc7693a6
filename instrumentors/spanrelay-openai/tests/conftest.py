"""Fixtures of the testkit: spans of a test, and no swallowed errors."""

from spanrelay_testkit.capture import (
    capture,
    nobody_is_trusted,
    only_what_tests_make_is_collected,
    swallowing_fails_the_test,
)

__all__ = ["capture", "nobody_is_trusted", "only_what_tests_make_is_collected", "swallowing_fails_the_test"]
