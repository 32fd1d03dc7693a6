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

FIRST = {
    "completion": {"model", "messages"},
    "responses": {"model", "input"},
    "embedding": {"model", "input"},
    "rerank": {"model", "query"},
    "compact_responses": {"model", "input"},
    "ocr": {"model", "document"},
}
"""What each function asks for first; an async one may take anything, and passes it on."""


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: f"{patch.module}.{patch.attribute}")
def test_each_function_is_there_and_of_its_colour(patch: Patch) -> None:
    assert patch.module in LiteLLMInstrumentor.modules
    found: Any = inspect.unwrap(getattr(importlib.import_module(patch.module), patch.attribute))
    assert inspect.iscoroutinefunction(found) is patch.attribute.startswith("a")
    known = list(inspect.signature(found).parameters)[:2]
    assert set(known) <= FIRST[patch.attribute.removeprefix("a")] or known == ["args", "kwargs"]


def test_the_package_has_functions_of_its_own_with_the_same_code() -> None:
    for patch in TABLE:
        one, other = (
            inspect.unwrap(getattr(importlib.import_module(module), patch.attribute))
            for module in ("litellm", next(row.module for row in TABLE if row.attribute == patch.attribute))
        )
        assert one.__code__ == other.__code__
