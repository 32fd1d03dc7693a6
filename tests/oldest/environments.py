"""The environments whose SDKs are the oldest that instrumentors support: as few as these SDKs leave room for.

What stands in each is a file of exact versions beside this one, and the tests that show a call of each SDK are there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tests.own_environment import ROOT, TOOLS, programs_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
CALLED = "test_every_way_of_asking_is_one_span_with_question_and_answer"
"""The test of the contract that makes each kind of call once."""
RUN = "test_a_run_is_one_trace"
"""The tests of frameworks that run an agent once, each way there is."""


class Environment(NamedTuple):
    """Some SDKs beside each other.

    Attributes:
        name: Of the file of its versions, and, after `oldest-`, in the user's cache folder.
        ours: Folders of this repository to install.
        sdks: The packages that are the oldest there.
        calls: Tests that make calls, each with options of pytest's.
        others: What else those need.
    """

    name: str
    ours: tuple[str, ...]
    sdks: tuple[str, ...]
    calls: tuple[tuple[str, ...], ...]
    others: tuple[str, ...] = ()

    @property
    def pins(self) -> Mapping[str, str]:
        """The versions of it, by canonical names."""
        lines = (HERE / f"{self.name}.txt").read_text().splitlines()
        named = [line.split("==") for line in lines if not line.startswith("#")]
        return {canonical(name): pin for name, pin in named}

    def programs(self) -> Path:
        """Return where its programs are, made or brought up to date."""
        ours, others = ("testkit", *self.ours), (*TOOLS, *self.sdks, *self.others)
        return programs_of(f"oldest-{self.name}", ours, others, constraints=HERE / f"{self.name}.txt")


ENVIRONMENTS = (
    Environment(
        "providers",
        (
            *("anthropic", "bedrock", "cohere", "google-genai", "huggingface", "langchain", "langgraph", "mcp"),
            *("mistral", "openai", "openai-compatible"),
        ),
        (
            *("anthropic", "botocore", "cerebras_cloud_sdk", "cohere", "fireworks-ai", "google-genai", "groq"),
            *("huggingface_hub", "langchain-core", "langgraph", "mcp", "mistralai", "openai", "perplexityai"),
            *("sambanova", "together", "writer-sdk"),
        ),
        (
            ("tests/providers/test_same_conversation.py", "-k", "not (Bedrock and async)"),
            ("instrumentors/spanrelay-openai-compatible/tests/test_contract.py", "-k", CALLED),
            ("instrumentors/spanrelay-mcp/tests/test_contract.py", "-k", CALLED),
            ("instrumentors/spanrelay-langgraph/tests/test_runs.py",),
        ),
        ("boto3", "uvicorn"),
    ),
    Environment(
        "apart",
        ("bedrock", "ollama", "openai"),
        ("aiobotocore", "ollama"),
        (("tests/providers/test_same_conversation.py",),),
        ("boto3", "openai"),
    ),
    Environment(
        "frameworks",
        (
            *("claude-agent-sdk", "deepagents", "langchain", "langgraph", "litellm", "openai", "openai-agents"),
            "pydantic-ai",
        ),
        ("claude-agent-sdk", "deepagents", "litellm", "openai-agents", "pydantic-ai-slim"),
        (
            ("instrumentors/spanrelay-claude-agent-sdk/tests/test_runs.py", "-k", RUN),
            ("instrumentors/spanrelay-deepagents/tests/test_agents.py", "-k", RUN),
            ("instrumentors/spanrelay-litellm/tests/test_contract.py", "-k", CALLED),
            ("instrumentors/spanrelay-openai-agents/tests/test_runs.py", "-k", RUN),
            ("instrumentors/spanrelay-pydantic-ai/tests/test_runs.py", "-k", RUN),
        ),
        ("langchain-openai", "pydantic-ai-slim[openai]"),
    ),
)


def canonical(package: str) -> str:
    """Return the name of a package as indexes have it."""
    return re.sub(r"[-_.]+", "-", package).lower()


ELSEWHERE = {"nvidia-nat-core": "spanrelay-nemo-agent-toolkit", "nemoguardrails": "spanrelay-nemo-guardrails"}
"""Packages that stand in an environment of their own, with the folders of its tests."""

_LOWEST = re.compile(r"^([\w.-]+) *>= *([\d.]+)$")


def lowest_of(requirement: str) -> tuple[str, str]:
    """Return the package of a requirement, and the oldest version that it takes."""
    found = _LOWEST.match(requirement)
    assert found, f"{requirement!r} should be `package >= version`"
    return found[1], found[2]


def is_version(pin: str, lowest: str) -> bool:
    """Whether a pin is the oldest version that there is of `lowest`: 1.66.0 of 1.66."""
    return pin == lowest or (pin.startswith(f"{lowest}.") and set(pin.removeprefix(lowest)) <= set(".0"))


def instrumentors() -> list[Any]:
    """Return those of this repository that can be imported here."""
    projects = (tomllib.loads(each.read_text())["project"] for each in ROOT.glob("instrumentors/*/pyproject.toml"))
    points = [point for each in projects for point in each["entry-points"]["opentelemetry_instrumentor"].values()]
    named = sorted(point.partition(":")[::2] for point in points)
    return [getattr(import_module(module), name) for module, name in named if find_spec(module)]
