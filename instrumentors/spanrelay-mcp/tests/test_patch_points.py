"""The places where the SDK is wrapped, in the version that is installed here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing
from spanrelay_mcp import MCPInstrumentor

TABLE = MCPInstrumentor().patches(Tracing("spanrelay_mcp"))
PARAMETERS = {
    "ClientSession.send_request": ["request", "result_type"],
    "BaseSession.send_request": ["request", "result_type"],
    "ClientSession._on_request": ["dctx", "method", "params"],
    "ClientSession._received_request": ["responder"],
    "ServerRunner._on_request": ["dctx", "method", "params"],
    "Server._handle_request": ["message", "req"],
    "Tool.run": ["arguments"],
}
"""Those that each wrapper reads, in their order."""


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: f"{patch.module}.{patch.attribute}")
def test_each_patch_point_is_there_and_takes_what_its_wrapper_reads(patch: Patch) -> None:
    assert patch.module in MCPInstrumentor.modules
    found: Any = importlib.import_module(patch.module)
    for name in patch.attribute.split("."):
        found = inspect.getattr_static(found, name)
    if patch.attribute == "otel_span":
        assert {"kind", "attributes"} <= set(inspect.signature(found).parameters)
        return
    wanted = PARAMETERS[patch.attribute]
    assert inspect.iscoroutinefunction(found)
    assert list(inspect.signature(found).parameters)[1 : len(wanted) + 1] == wanted


def test_both_generations_of_the_sdk_have_a_client_and_a_server_that_policy_does_not_miss() -> None:
    assert len([patch for patch in TABLE if patch.required]) == 2
