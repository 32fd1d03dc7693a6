"""LiteLLM with the instrumentor at work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from spanrelay_testkit.capture import Capture, at_work

collect_ignore_glob: list[str] = []

if find_spec("litellm") is None:  # it is in the environment of all providers' SDKs: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")

# Else it asks for prices on the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what LiteLLM and its dependencies warn of by themselves."""
    for item in items:
        for warning in (
            "DeprecationWarning",
            "ResourceWarning",
            "UserWarning",
            "pytest.PytestUnraisableExceptionWarning",
        ):
            item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))


@pytest.fixture
def instrumented(capture: Capture) -> Iterator[Capture]:
    """The spans of a test in which the SDK is instrumented; nothing stays current."""
    from spanrelay_litellm import LiteLLMInstrumentor

    with at_work(capture, LiteLLMInstrumentor):
        yield capture
