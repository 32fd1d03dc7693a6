"""The tests of this package run in an environment of their own, where the providers' SDKs are."""

from pathlib import Path

from tests.own_environment import run_tests_of
from tests.provider_environment import beside_other_sdks, providers


@beside_other_sdks("huggingface_hub")
def test_the_tests_of_this_package_pass_where_the_sdk_is() -> None:
    run_tests_of(providers(), Path(__file__).parent)
