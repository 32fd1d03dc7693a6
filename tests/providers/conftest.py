"""What LiteLLM would do or say beside the tests."""

from __future__ import annotations

import os

import pytest

# Else it asks for prices on the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what LiteLLM and its dependencies warn of by themselves."""
    for item in items:
        if "LiteLLM" in item.name:
            for warning in ("DeprecationWarning", "ResourceWarning", "UserWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))
