"""What SDKs would do or say beside the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Else it asks for prices on the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

HERE = Path(__file__).parent

WARNINGS = {
    "LiteLLM": (":DeprecationWarning", ":ResourceWarning", ":UserWarning"),
    "GoogleGenAI": ("Inheritance class AiohttpClientSession:DeprecationWarning",),
}
"""What an SDK warns of by itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what SDKs and their dependencies warn of by themselves."""
    for item in (each for each in items if each.path.parent == HERE):  # those of other folders come here too
        # Of clients that an SDK or a program of a README leaves to the garbage: in which test it is found is chance.
        item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
        for warning in (each for name, found in WARNINGS.items() if name in item.name for each in found):
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{warning}"))
