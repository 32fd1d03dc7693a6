"""The tests of this package run in the environment of the providers' SDKs."""

from pathlib import Path

from tests.own_environment import TOOLS, programs_of, run_tests_of
from tests.provider_environment import beside_other_sdks, providers


@beside_other_sdks("litellm")
def test_the_tests_of_this_package_pass_beside_other_sdks() -> None:
    run_tests_of(providers(), Path(__file__).parent)


@beside_other_sdks("litellm")
def test_they_pass_beneath_a_framework() -> None:
    ours = ("litellm", "openai", "openai-agents", "testkit")
    others = (*TOOLS, "litellm", "openai-agents", "tenacity")
    run_tests_of(programs_of("litellm-agents", ours, others, unpinned=("websockets",)), Path(__file__).parent)
