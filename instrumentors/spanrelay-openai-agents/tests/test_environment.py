"""The tests of this package run in an environment of their own: the SDK asks for older websockets than others do."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("agents", "SPANRELAY_TEST_OPENAI_AGENTS")
def test_the_tests_of_this_package_pass_where_the_sdk_is() -> None:
    programs = programs_of(
        "openai-agents", ("openai", "openai-agents", "testkit"), (*TOOLS, "openai-agents"), unpinned=("websockets",)
    )
    run_tests_of(programs, Path(__file__).parent)
