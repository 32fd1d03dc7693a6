"""The functions that are wrapped, in the version that is installed here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_litellm import LiteLLMInstrumentor

TABLE = LiteLLMInstrumentor().patches(Tracing("spanrelay_litellm"))


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: f"{patch.module}.{patch.attribute}")
def test_each_function_is_there_and_of_its_colour(patch: Patch) -> None:
    assert patch.module in LiteLLMInstrumentor.modules
    found: Any = inspect.unwrap(getattr(importlib.import_module(patch.module), patch.attribute))
    assert inspect.iscoroutinefunction(found) is (patch.attribute == "acompletion")
    assert list(inspect.signature(found).parameters)[:2] == ["model", "messages"]


def test_the_package_has_functions_of_its_own_with_the_same_code() -> None:
    here, there = importlib.import_module("litellm"), importlib.import_module("litellm.main")
    for name in ("completion", "acompletion"):
        one, other = (inspect.unwrap(getattr(module, name)) for module in (here, there))
        assert one.__code__ == other.__code__
