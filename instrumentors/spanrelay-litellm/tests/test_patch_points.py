"""The functions that are wrapped, in the version that is installed here."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_litellm import LiteLLMInstrumentor
from spanrelay_litellm.functions import FUNCTIONS, Function

TABLE = LiteLLMInstrumentor().patches(Tracing("spanrelay_litellm"))

BENEATH = ("litellm.llms.anthropic.messages.native.handler",)
"""Modules that LiteLLM itself asks, from those that are patched."""
ASYNC = {function.async_name for function in FUNCTIONS}


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: f"{patch.module}.{patch.attribute}")
def test_each_function_is_there_and_of_its_colour(patch: Patch) -> None:
    assert patch.module in LiteLLMInstrumentor.modules
    found: Any = inspect.unwrap(getattr(importlib.import_module(patch.module), patch.attribute))
    assert inspect.iscoroutinefunction(found) is (patch.attribute in ASYNC)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.async_name)
def test_each_module_of_a_function_has_one_with_the_same_code(function: Function) -> None:
    for name in filter(None, (function.name, function.async_name)):
        found = [inspect.unwrap(getattr(importlib.import_module(home), name)) for home in function.homes]
        assert len({each.__code__ for each in found}) == 1


def test_no_module_of_litellms_has_one_that_is_not_wrapped() -> None:
    known = {(patch.module, patch.attribute) for patch in TABLE}
    ours = {id(inspect.unwrap(getattr(sys.modules[module], name))) for module, name in known}
    named = {patch.attribute for patch in TABLE}
    assert [
        (module.__name__, name)
        for module in list(sys.modules.values())
        if module is not None and module.__name__.startswith("litellm") and module.__name__ not in BENEATH
        if ".proxy" not in module.__name__
        for name, value in list(vars(module).items())
        if name in named and id(inspect.unwrap(value)) in ours and (module.__name__, name) not in known
    ] == []
