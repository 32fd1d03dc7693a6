"""OTLP over HTTP, as an ASGI application: protobuf and JSON, in any content encoding, answered as the protocol says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.rpc import code_pb2, status_pb2

from spanrelay import _json
from spanrelay._guard import failed, losses
from spanrelay.collecting.delivery.courier import Figures
from spanrelay.collecting.delivery.outlet import Deliveries
from spanrelay.collecting.intake import Full
from spanrelay.collecting.requests import LARGEST, RETRY_S, SIGNALS, Busy, Malformed, Taking
from spanrelay.collecting.sessions import Counts
from spanrelay.gateway import bodies
from spanrelay.gateway.bodies import Gone, Receive, Unknown
from spanrelay.gateway.limits import TooLarge

Send = Callable[[dict[str, Any]], Awaitable[None]]
_PATIENCE_S = 60.0
"""Seconds within which a request has to have come."""
_PROTOBUF, _JSON, _TEXT = b"application/x-protobuf", b"application/json", b"text/plain; charset=utf-8"
_KINDS = ("application/json", "application/x-protobuf", "application/protobuf", "")
"""Content types that are read; some clients say protobuf's without the `x-`, or nothing."""
_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    404: code_pb2.NOT_FOUND,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    500: code_pb2.INTERNAL,
    503: code_pb2.UNAVAILABLE,
}


class _Refused(Exception):
    """A request that is not taken: its status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Status:
    """The application that answers `/healthz` and `/metrics`, and nothing else.

    Args:
        counts: What `/metrics` tells.
        deliveries: What both tell of where documents are delivered.
    """

    def __init__(self, counts: Callable[[], Counts], deliveries: Deliveries) -> None:
        self._counts, self._deliveries = counts, deliveries

    async def __call__(self, scope: Mapping[str, Any], _receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not await self.answers(scope, send):
            await _answer(send, 404, b"GET /healthz or /metrics\n", _TEXT)

    async def answers(self, scope: Mapping[str, Any], send: Send) -> bool:
        """Answer a request if it is one of these."""
        if scope["method"] != "GET" or scope["path"] not in ("/healthz", "/metrics"):
            return False
        if scope["path"] == "/healthz":
            await _answer(send, 200, _json.dumps(health(self._deliveries.figures)), _JSON)
        else:
            text = told(self._counts()) + told_of_deliveries(self._deliveries.figures)
            await _answer(send, 200, text.encode(), _TEXT)
        return True


class App:
    """The application.

    Args:
        taking: Takes what comes.
        counts: What `/metrics` tells.
        deliveries: As `Status` has them.
    """

    def __init__(self, taking: Taking, counts: Callable[[], Counts], deliveries: Deliveries) -> None:
        self._taking, self._status = taking, Status(counts, deliveries)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if await self._status.answers(scope, send):
            return None
        method, path = scope["method"], scope["path"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        is_json = _kind_of(headers) == "application/json"
        try:
            await self._take(method, path, headers, receive, is_json=is_json)
        except _Refused as refused:
            losses.add(f"requests that were not taken ({refused.status})")
            return await _answer(send, refused.status, *_told_why(refused, is_json=is_json))
        except Gone:
            return None
        except Exception as error:
            failed("taking in a request", error)
            return await _answer(send, 500, *_told_why(_Refused(500, "the collector failed"), is_json=is_json))
        return await _answer(send, 200, b"{}" if is_json else b"", _JSON if is_json else _PROTOBUF)

    async def _take(
        self, method: str, path: str, headers: Mapping[bytes, str], receive: Receive, *, is_json: bool
    ) -> None:
        signal = path.removeprefix("/v1/")
        if signal == path or signal not in SIGNALS or method != "POST":
            raise _Refused(404, f"POST to one of {', '.join(f'/v1/{each}' for each in SIGNALS)}")
        if not self._taking.knows(headers.get(b"authorization", "")):
            raise _Refused(401, "this collector asks for its token: authorization: Bearer …")
        if _kind_of(headers) not in _KINDS:
            told = f"{_kind_of(headers)!r} is not a form of OTLP; send application/x-protobuf or application/json"
            raise _Refused(415, told)
        try:
            if int(headers.get(b"content-length", "0")) > LARGEST:
                raise TooLarge
            data = await asyncio.wait_for(bodies.whole(receive, LARGEST), _PATIENCE_S)
            encoding = headers.get(b"content-encoding", "")
            data = bodies.unpacked(data, encoding, LARGEST) if encoding else data
            await self._taking.take(signal, data, is_json=is_json)
        except TooLarge:
            raise _Refused(413, f"a request may have {LARGEST} bytes; send fewer spans at a time") from None
        except (asyncio.TimeoutError, TimeoutError):
            raise _Refused(408, f"the request had not come within {_PATIENCE_S:.0f} seconds") from None
        except Unknown as error:
            raise _Refused(415, str(error)) from None
        except Malformed as error:
            raise _Refused(400, str(error)) from None
        except (Busy, Full) as error:
            raise _Refused(503, str(error)) from None


def _kind_of(headers: Mapping[bytes, str]) -> str:
    return headers.get(b"content-type", "").partition(";")[0].strip().casefold()


def _told_why(refused: _Refused, *, is_json: bool) -> tuple[bytes, bytes]:
    """Return the body of a refusal and its type: a `google.rpc.Status`, as OTLP has it."""
    code = _CODES[refused.status]
    if is_json:
        return _json.dumps({"code": code, "message": str(refused)}), _JSON
    return status_pb2.Status(code=code, message=str(refused)).SerializeToString(), _PROTOBUF


async def _answer(send: Send, status: int, body: bytes, kind: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_S))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def told(counts: Counts) -> str:
    """Return counts as Prometheus reads them."""
    rows = (
        ("requests_total", "counter", "export requests gathered", counts.requests),
        ("spans_total", "counter", "spans gathered", counts.spans),
        ("log_records_total", "counter", "log records gathered", counts.logs),
        ("documents_total", "counter", "documents written", counts.documents),
        ("findings_total", "counter", "what could not be read or written", counts.findings),
        ("sessions_open", "gauge", "sessions that wait for silence", counts.open_sessions),
        *((("records_behind", "gauge", "records that are to be read", counts.behind),) * (counts.behind is not None)),
    )
    lines = [
        f"# HELP spanrelay_{name} {what}\n# TYPE spanrelay_{name} {kind}\nspanrelay_{name} {value}\n"
        for name, kind, what, value in rows
    ]
    return "".join(lines)


def told_of_deliveries(figures: Mapping[str, Figures]) -> str:
    """Return what became of documents that are delivered, by target, as Prometheus reads it."""
    rows = (
        ("deliveries_total", "counter", "documents delivered", "delivered"),
        ("delivery_retries_total", "counter", "attempts that failed and are made again", "retried"),
        ("dead_letters_total", "counter", "documents refused for good", "dead"),
        ("deliveries_waiting", "gauge", "documents that are not delivered yet", "waiting"),
    )
    lines: list[str] = []
    for name, kind, what, field in rows if figures else ():
        lines += [f"# HELP spanrelay_{name} {what}\n# TYPE spanrelay_{name} {kind}\n"]
        for to, each in figures.items():
            label = to.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
            lines.append(f'spanrelay_{name}{{to="{label}"}} {getattr(each, field)}\n')
    return "".join(lines)


def health(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Return what `/healthz` says: a target that is away is told, and no reason to start this collector again."""
    waits = {to: {"waiting": each.waiting, "reason": each.why} for to, each in figures.items() if each.why}
    return {"status": "ok", **({"deliveries": waits} if waits else {})}
