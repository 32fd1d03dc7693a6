"""The tests of this package run in the environment of the providers' SDKs."""

from pathlib import Path

from tests.own_environment import run_tests_of
from tests.provider_environment import beside_other_sdks, providers


@beside_other_sdks("litellm")
def test_the_tests_of_this_package_pass_beside_other_sdks() -> None:
    run_tests_of(providers(), Path(__file__).parent)
