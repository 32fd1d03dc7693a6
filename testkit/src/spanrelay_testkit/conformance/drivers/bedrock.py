"""Amazon Bedrock by `boto3`, and by aiobotocore where that is."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast

from spanrelay_testkit.conformance.driver import Driver, is_importable
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half

METHODS = {
    "converse": ("Converse", "converse", ""),
    "converse-stream": ("ConverseStream", "converse_stream", "stream"),
    "invoke": ("InvokeModel", "invoke_model", ""),
    "invoke-with-response-stream": (
        "InvokeModelWithResponseStream",
        "invoke_model_with_response_stream",
        "body",
    ),
}
"""By the end of the path: operation, method, and where its answer has events."""
ACCESS = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}


class Bedrock(Driver):
    """The client `bedrock-runtime`."""

    sdk = module = "boto3"
    instrumentors = ("spanrelay_bedrock:BedrockInstrumentor",)
    serves = frozenset(
        ("bedrock", api) for api in ("converse", "converse_stream", "invoke_model", "invoke_model_stream")
    )
    asynchronous = (False, True) if is_importable("aiobotocore") else (False,)

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client that asks once."""
        once = import_module("botocore.config").Config(retries={"max_attempts": 0})
        options: dict[str, Any] = {**ACCESS, "endpoint_url": address}
        if not half.asynchronous:
            client = import_module("boto3").client("bedrock-runtime", config=once, **options)
            yield client
            client.close()
            return
        config = import_module("aiobotocore.config").AioConfig().merge(once)
        session = import_module("aiobotocore.session").get_session()
        async with session.create_client("bedrock-runtime", config=config, **options) as client:
            yield client

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the recorded body: as parameters, or as the body of the model's own that it is."""
        operation, method, _ = self.method_of(exchange)
        model = exchange.truth["request_model"]
        if method.startswith("invoke"):
            return getattr(client, method)(modelId=model, body=json.dumps(exchange.body))
        shape = client.meta.service_model.operation_model(operation).input_shape
        return getattr(client, method)(modelId=model, **as_parameters(shape, exchange.body))

    def method_of(self, exchange: Exchange) -> tuple[str, str, str]:
        """Operation, method and key of the events, by the path."""
        return METHODS[exchange.path.rpartition("/")[2]]

    def errors(self) -> tuple[type[Exception], ...]:
        """The two kinds of botocore."""
        exceptions = import_module("botocore.exceptions")
        return (exceptions.BotoCoreError, exceptions.ClientError)

    async def told(self, answer: Any, exchange: Exchange, half: Half) -> list[Any]:
        """Read an answer, its body or its events to their end."""
        metadata = {**answer["ResponseMetadata"], "HTTPHeaders": None}  # which number each request
        told: dict[str, Any] = {**answer, "ResponseMetadata": metadata}
        _, _, events = self.method_of(exchange)
        if events:
            stream = told.pop(events)
            each = half.each(aiter(stream) if half.asynchronous else iter(stream))
            return [told, type(stream), *[event async for event in each]]
        if "body" in told:
            body = told.pop("body")
            return [told, type(body), await half.settle(body.read())]
        return [told]

    def model_of(self, exchange: Exchange, request: Request) -> Any:
        """Stands in the path."""
        return request.model

    def without_model(self, exchange: Exchange, request: Request) -> Any:
        """The operation, and the body."""
        return request.path.rpartition("/")[2], request.body

    def rewritable(self, exchange: Exchange) -> bool:
        """Always: the model is a parameter."""
        return True

    def provider(self, exchange: Exchange) -> str:
        """Known by the service."""
        return "aws.bedrock"


def as_parameters(shape: Any, value: Any) -> Any:
    """Return recorded JSON as parameters of `shape`, with bytes for its base64."""
    if shape is not None and shape.type_name == "blob":
        return base64.b64decode(value)
    if isinstance(value, Mapping):
        members, inner = getattr(shape, "members", {}), getattr(shape, "value", None)
        fields = cast("Mapping[str, Any]", value)
        return {key: as_parameters(members.get(key, inner), each) for key, each in fields.items()}
    if isinstance(value, list):
        return [as_parameters(getattr(shape, "member", None), each) for each in cast("list[Any]", value)]
    return value


DRIVERS = (Bedrock(),)
