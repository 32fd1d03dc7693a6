"""The places where the SDK is wrapped: each is there, of its colour, and takes what its wrapper reads."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_google_genai import GoogleGenAIInstrumentor

TABLE = GoogleGenAIInstrumentor().patches(Tracing("spanrelay_google_genai"))
TAKES = {
    "google.genai._api_client": ["self", "http_method", "path", "request_dict", "http_options"],
    "google.genai._extra_utils": None,
    "google.genai._gaos.basesdk": ["self", "hook_ctx", "request"],
    "google.genai._gaos.interactions": ["self"],
}
"""The parameters that a wrapper reads, by module."""


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_each_place_is_there_and_takes_what_its_wrapper_reads(patch: Patch) -> None:
    function: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        function = getattr(function, name)
    name = patch.attribute.lower()
    assert inspect.iscoroutinefunction(function) is ("async" in name)
    assert inspect.isgeneratorfunction(function) is (name == "baseapiclient.request_streamed")
    takes = TAKES[patch.module]
    parameters = list(inspect.signature(function).parameters)
    if takes is not None:
        assert parameters[: len(takes)] == takes
    elif "invoke" in name:
        assert parameters == ["args", "function_to_invoke"]
