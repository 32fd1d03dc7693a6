"""The tests of this package run where the SDK is: the newest beside other SDKs, older ones and frameworks apart."""

from pathlib import Path

import pytest
from tests.own_environment import TOOLS, programs_of, run_tests_of
from tests.provider_environment import beside_other_sdks, providers

HERE = Path(__file__).parent
FIRST = ("mcp==1.14.1", "pydantic==2.11.10", "pydantic-settings==2.9.1")
"""The oldest that is supported, with what there was of others then."""
UNPINNED = ("mcp", "pydantic", "pydantic_core", "pydantic-settings", "websockets")


@beside_other_sdks("mcp")
def test_the_tests_of_this_package_pass_beside_other_sdks() -> None:
    run_tests_of(providers(), HERE)


@beside_other_sdks("mcp")
@pytest.mark.parametrize(
    ("name", "ours", "others"),
    [
        ("mcp-oldest", (), FIRST),
        ("mcp-first", (), ("mcp<2",)),
        ("mcp-langchain", ("langchain",), ("langchain-mcp-adapters",)),
        ("mcp-agents", ("openai-agents", "pydantic-ai"), ("mcp", "openai-agents", "pydantic-ai-slim[openai,mcp]")),
    ],
)
def test_they_pass_with_other_versions_and_beneath_frameworks(
    name: str, ours: tuple[str, ...], others: tuple[str, ...]
) -> None:
    folders, packages = ("mcp", "openai", "testkit", *ours), (*TOOLS, "uvicorn", *others)
    run_tests_of(programs_of(name, folders, packages, unpinned=UNPINNED), HERE)
