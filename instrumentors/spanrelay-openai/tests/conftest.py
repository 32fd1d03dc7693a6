"""Fixtures of the testkit: spans of a test, and no swallowed errors."""

from spanrelay_testkit.capture import capture, swallowing_fails_the_test

__all__ = ["capture", "swallowing_fails_the_test"]
