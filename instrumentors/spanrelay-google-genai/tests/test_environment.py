"""The tests of this package run where every provider's SDK is, as none of them is in the development environment."""

from pathlib import Path

from tests.own_environment import run_tests_of
from tests.provider_environment import beside_other_sdks, providers


@beside_other_sdks("google.genai")
def test_the_tests_of_this_package_pass_where_the_sdk_is() -> None:
    run_tests_of(providers(), Path(__file__).parent)
