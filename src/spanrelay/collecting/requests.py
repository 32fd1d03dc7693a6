"""What an export request is and how it is answered, whichever way it came."""

from __future__ import annotations

import hmac
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanrelay._guard import losses
from spanrelay.collecting.gatherer import Gatherer
from spanrelay.collecting.intake import Intake, Request

LARGEST = 64 << 20
"""Bytes of an export request, unpacked."""
RETRY_S = 5
"""Seconds after which a client may ask again that has been turned away."""
_BEHIND = 512 << 20
"""Bytes on disk that may wait to be gathered."""
_KINDS: dict[str, tuple[Any, str]] = {
    "traces": (ExportTraceServiceRequest, "resourceSpans"),
    "logs": (ExportLogsServiceRequest, "resourceLogs"),
}
SIGNALS = (*_KINDS, "metrics")


class Malformed(Exception):
    """What came is no export request of its signal."""


class Busy(Exception):
    """What came cannot be taken now, and may be sent again later."""


class Taking:
    """Takes export requests in; what is returned from has been accepted, and is on disk.

    Args:
        intake: Keeps them.
        gatherer: Is asked how far behind it is.
        token: What a request has to know; None lets everybody in who can connect.
    """

    def __init__(self, intake: Intake, gatherer: Gatherer, token: str | None) -> None:
        self._intake, self._gatherer, self._token = intake, gatherer, token

    def knows(self, authorization: str) -> bool:
        """Whether a request may be made, by its header `authorization`."""
        return self._token is None or hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())

    async def take(self, signal: str, data: bytes, *, is_json: bool) -> None:
        """Take in a request; of metrics nothing is kept.

        Raises:
            Malformed: it is no request of its signal.
            Busy: what is on disk already waits to be gathered.
            Full: the disk does not take it.
        """
        if signal == "metrics":
            losses.add("requests of metrics, which no trajectory is made of")
            return
        _check(signal, data, is_json=is_json)
        if self._gatherer.behind > _BEHIND:
            losses.add("requests that came faster than they are gathered")
            raise Busy("what has been accepted is still being read; send it again later")
        if data:
            await self._intake.keep(Request(data, is_json))


def _check(signal: str, data: bytes, *, is_json: bool) -> None:
    kind, member = _KINDS[signal]
    try:
        if not is_json:
            kind.FromString(data)
            return
        value = orjson.loads(data)
    except (DecodeError, ValueError) as error:
        form = "JSON" if is_json else "protobuf"
        raise Malformed(f"this is not an export request of {signal} in {form}: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get(member, []), list):
        raise Malformed(f"an export request of {signal} is an object with the list {member!r}")
