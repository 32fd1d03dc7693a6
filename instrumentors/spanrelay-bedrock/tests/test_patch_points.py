"""The places where botocore is wrapped, and what of it is relied on: each is there, of its colour."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from botocore.eventstream import EventStream
from botocore.response import StreamingBody

from spanrelay.instrumentation.patching import Patch
from spanrelay.providers import SDKS
from spanrelay.tracing import Tracing
from spanrelay_bedrock import BedrockInstrumentor
from spanrelay_bedrock.operations import OPERATIONS

from .clients import open_client
from .test_policy import SYNC

TABLE = BedrockInstrumentor().patches(Tracing("spanrelay_bedrock"))


@pytest.mark.parametrize("patch", TABLE, ids=lambda patch: patch.attribute)
def test_the_boundary_is_there_and_takes_an_operation(patch: Patch) -> None:
    found: Any = pytest.importorskip(patch.module)
    for name in patch.attribute.split("."):
        found = getattr(found, name)
    assert inspect.iscoroutinefunction(inspect.unwrap(found)) is patch.module.startswith("aiobotocore")
    assert list(inspect.signature(found).parameters) == ["self", "operation_name", "api_params"]


def test_what_a_tap_replaces_is_what_the_sdk_reads_with() -> None:
    made = EventStream(None, None, None, "name")
    assert {"_raw_stream", "_event_generator"} <= vars(made).keys()
    assert callable(made._parse_event)
    assert {"_raw_stream", "_content_length"} <= vars(StreamingBody(None, 1)).keys()


@pytest.mark.parametrize("service", OPERATIONS)
def test_the_operations_are_those_of_the_service(service: str) -> None:
    known = open_client(SYNC, "http://127.0.0.1", service).meta.service_model.operation_names
    newest = importlib.import_module("botocore").__version__ >= "1.43"
    assert not newest or set(OPERATIONS[service]) <= set(known)
    naming = {"Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"}
    assert service != "bedrock-runtime" or naming <= set(known)


def test_the_operations_that_pass_unseen_without_an_instrumentor_are_those_that_it_knows() -> None:
    [row] = [sdk for sdk in SDKS if sdk.ours == "spanrelay-bedrock"]
    whole = {service for service in row.services if "." not in service}
    named = {
        f"{service}.{operation}" for service in OPERATIONS if service not in whole for operation in OPERATIONS[service]
    }
    assert set(row.services) == whole | named
    assert whole <= set(OPERATIONS)
