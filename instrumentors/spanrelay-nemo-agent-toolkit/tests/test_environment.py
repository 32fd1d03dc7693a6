"""The tests of this package run in an environment of their own: the toolkit asks for older versions than others do."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("nat", "SPANRELAY_TEST_NAT", python=((3, 11), (3, 13)))
def test_the_tests_of_this_package_pass_where_the_toolkit_is() -> None:
    programs = programs_of(
        "nat",
        ("openai", "langchain", "langgraph", "nemo-agent-toolkit", "testkit"),
        (*TOOLS, "nvidia-nat-langchain[openai]"),
        constraints=Path(__file__).with_name("constraints.txt"),
    )
    run_tests_of(programs, Path(__file__).parent)
