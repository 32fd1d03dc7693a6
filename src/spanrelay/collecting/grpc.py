"""OTLP over gRPC: the services of traces, logs and metrics, whose requests are kept as the bytes that came."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from spanrelay._guard import losses
from spanrelay.collecting.intake import Full
from spanrelay.collecting.requests import LARGEST, RETRY_S, SIGNALS, Busy, Malformed, Taking

_SERVICE = "opentelemetry.proto.collector.{singular}.v1.{title}Service"
_SINGULAR = {"traces": "trace", "logs": "logs", "metrics": "metrics"}


def server_of(taking: Taking) -> Any:
    """Return a server that takes in what is exported to it; it has to be given a port and started in a running loop."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST)])
    for signal in SIGNALS:
        name = _SINGULAR[signal]
        handler = grpc.unary_unary_rpc_method_handler(partial(_export, taking, signal))  # bytes in, bytes out
        service = _SERVICE.format(singular=name, title=name.capitalize())
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    return server


async def _export(taking: Taking, signal: str, data: bytes, context: Any) -> bytes:
    headers = dict(context.invocation_metadata() or ())
    if not taking.knows(str(headers.get("authorization", ""))):
        await _refuse(context, grpc.StatusCode.UNAUTHENTICATED, "this collector asks for its token")
    try:
        await taking.take(signal, data, is_json=False)
    except Malformed as error:
        await _refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except (Busy, Full) as error:
        context.set_trailing_metadata((("grpc-status-details-bin", _retry_later(str(error))),))
        await _refuse(context, grpc.StatusCode.UNAVAILABLE, str(error))
    return b""


async def _refuse(context: Any, code: Any, why: str) -> None:
    losses.add(f"requests that were not taken ({code.name})")
    await context.abort(code, why)


def _retry_later(why: str) -> bytes:
    """Return the details that tell an exporter when to send it again."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=RETRY_S)))
    return status_pb2.Status(code=code_pb2.UNAVAILABLE, message=why, details=[detail]).SerializeToString()
