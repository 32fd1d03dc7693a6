"""The places where the SDK is wrapped: each is there, of its colour, and takes what its wrapper reads."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import anthropic
import anthropic._base_client
import pytest
from packaging.version import Version

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_anthropic import AnthropicInstrumentor

TABLE = AnthropicInstrumentor().patches(Tracing("spanrelay_anthropic"))
NEW = Version(anthropic.__version__) >= Version("2.0")
ASYNC = ("Async", "SessionToolRunner")


def place(patch: Patch) -> Any:
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    "patch", [patch for patch in TABLE if NEW or not patch.newer], ids=lambda patch: f"{patch.module} {patch.attribute}"
)
def test_the_boundary_is_there_and_of_its_colour(patch: Patch) -> None:
    assert inspect.iscoroutinefunction(place(patch)) is any(word in patch.attribute for word in ASYNC)


@pytest.mark.parametrize("colour", ["Sync", "Async"])
def test_the_method_of_the_base_client_is_given_a_body_that_is_plain_json(colour: str) -> None:
    [patch] = [
        patch
        for patch in TABLE
        if patch.attribute.startswith(f"{colour}APIClient.") and "process" not in patch.attribute
    ]
    assert patch.attribute.endswith("._request" if NEW else ".request")
    assert list(inspect.signature(place(patch)).parameters)[:3] == ["self", "cast_to", "options"]
