"""The tests of this package run in an environment of their own, where the providers' SDKs are."""

from pathlib import Path

from tests.own_environment import run_tests_of
from tests.provider_environment import beside_other_sdks, providers


@beside_other_sdks("groq")
def test_the_tests_of_this_package_pass_where_the_sdks_are() -> None:
    run_tests_of(providers(), Path(__file__).parent)
