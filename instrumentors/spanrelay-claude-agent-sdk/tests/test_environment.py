"""The tests of this package run in an environment of their own: the SDK brings a whole program along."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("claude_agent_sdk", "SPANRELAY_TEST_CLAUDE_AGENT_SDK")
def test_the_tests_of_this_package_pass_where_the_sdk_is() -> None:
    programs = programs_of("claude-agent-sdk", ("claude-agent-sdk", "testkit"), (*TOOLS, "claude-agent-sdk"))
    run_tests_of(programs, Path(__file__).parent)
