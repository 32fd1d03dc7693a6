"""What every test shares: the capture of spans, and the rule that a swallowed error fails the test."""

from spanrelay_testkit.capture import capture, swallowing_fails_the_test

__all__ = ["capture", "swallowing_fails_the_test"]
