"""The tests of this package run in an environment of their own: Deep Agents need an older tenacity than others."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("deepagents", "SPANRELAY_TEST_DEEPAGENTS", python=((3, 11), (3, 99)))
def test_the_tests_of_this_package_pass_where_deep_agents_are() -> None:
    programs = programs_of(
        "deepagents",
        ("openai", "langchain", "langgraph", "deepagents", "testkit"),
        (*TOOLS, "langchain-openai", "deepagents"),
        unpinned=("tenacity",),
    )
    run_tests_of(programs, Path(__file__).parent)
