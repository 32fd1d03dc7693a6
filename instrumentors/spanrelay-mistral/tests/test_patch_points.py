"""The places where the SDK is wrapped: each is there, of its colour, and takes what its wrapper reads."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_mistral import MistralInstrumentor

TABLE = MistralInstrumentor().patches(Tracing("spanrelay_mistral"))


def place(patch: Patch) -> Any:
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    "patch", [patch for patch in TABLE if not patch.newer], ids=lambda patch: f"{patch.module} {patch.attribute}"
)
def test_the_boundary_is_there_and_takes_a_request(patch: Patch) -> None:
    function = place(patch)
    assert inspect.iscoroutinefunction(function) is patch.attribute.endswith("_async")
    assert list(inspect.signature(function).parameters)[:3] == ["self", "hook_ctx", "request"]


@pytest.mark.parametrize(
    "patch",
    [patch for patch in TABLE if patch.newer and patch.module.startswith("mistralai.client.")],
    ids=lambda patch: patch.attribute,
)
def test_each_method_that_asks_is_there(patch: Patch) -> None:
    assert inspect.iscoroutinefunction(place(patch)) is patch.attribute.endswith("_async")
