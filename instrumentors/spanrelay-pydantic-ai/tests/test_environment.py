"""The tests of this package run in an environment of their own, where the framework is and nothing else needs it."""

from pathlib import Path

from tests.own_environment import TOOLS, apart, programs_of, run_tests_of


@apart("pydantic_ai", "SPANRELAY_TEST_PYDANTIC_AI", python=((3, 11), (3, 99)))
def test_the_tests_of_this_package_pass_where_the_framework_is() -> None:
    programs = programs_of("pydantic-ai", ("openai", "pydantic-ai", "testkit"), (*TOOLS, "pydantic-ai-slim[openai]"))
    run_tests_of(programs, Path(__file__).parent)
