"""What collectors answer to OpenTelemetry's own OTLP exporters, which keep only whether it was a success.

The one module that knows private names of those exporters; of any other exporter only the log is heard.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from spanrelay._masking import mask_text
from spanrelay._retrying import retry_after_in
from spanrelay.exporters.bodies import bound_answers
from spanrelay.exporters.outbox import Answer, Outcome
from spanrelay.exporters.redirects import Reply, Route, shown, status_text

_LONGEST = 300
"""Characters of a collector's own words that are repeated."""

_REFUSING_STATUS = frozenset({400, 413, 422, "INVALID_ARGUMENT"})
"""HTTP and gRPC status for content that is never taken. Wrong addresses and keys (404, 401) may be put right."""

_REFUSING_PHRASES = ("larger than max", "exceeds max_request_size", "Failed to encode")


T = TypeVar("T")


class _Ask(Protocol):
    """Does what asks a collector, and hears what that returns beside its result."""

    def __call__(self, ask: Callable[[], tuple[T, Answer]], /) -> T: ...


class Hearing:
    """Hears what is answered to one stock exporter, on the thread that exports.

    Args:
        exporter: The exporter, which is changed so that its answers pass here.
        stop: Ends the exporter, called where nothing was taken and it is not to try again by itself.
    """

    def __init__(self, exporter: object, stop: Callable[[], None]) -> None:
        self._ear = _Ear(type(exporter))
        self._answers: list[Answer] = []
        self._stop = stop
        self._asking = self._hurried = False
        self._ear.attach()
        self.attach(exporter)

    def attach(self, exporter: Any) -> None:
        """Hear another exporter of the same kind, which takes the first one's place."""
        client: Any = getattr(exporter, "_client", None)
        if hasattr(client, "_transport"):
            session = getattr(client._transport, "_session", None)
            _trust_what_is_set(session)
            bound_answers(session)
            client._transport = _Transport(client._transport, self._ask)
        elif hasattr(exporter, "_stub") and client is not None:
            stub, place = exporter._stub, shown(str(exporter._endpoint))
            # The exporter makes a new one when the connection is lost.
            exporter._stub = lambda channel: _Stub(stub(channel), place, self._ask)  # pyright: ignore[reportUnknownLambdaType]
            exporter._client = _Stub(client, place, self._ask)

    def _ask(self, ask: Callable[[], tuple[T, Answer]]) -> T:
        """Ask the collector, and hear its answer."""
        self._asking = True
        try:
            result, answer = ask()
        finally:
            self._asking = False
        self._answers.append(answer)
        if self._hurried and answer.outcome is not Outcome.DELIVERED:
            self._stop()
        return result

    def hurry(self) -> None:
        """Let the exporter make no pause any more before it tries again; what is under way is not broken off.

        Its collector may have taken it already, and would get it twice.
        """
        self._hurried = True
        if not self._asking:
            self._stop()

    def listen(self) -> None:
        """Hear the calling thread from now on, and forget what was heard."""
        self._ear.listen()
        self._answers.clear()

    def answer(self, *, success: bool) -> Answer:
        """Return what came of an export, given what the exporter itself says of it."""
        taken = [answer for answer in self._answers if answer.outcome is Outcome.DELIVERED]
        if success:
            words = next((answer.reason for answer in taken if answer.reason), "")
            return Answer(Outcome.DELIVERED, words, rejected=sum(answer.rejected for answer in taken))
        return self._answers[-1] if self.refused else _why(self._ear.heard)

    @property
    def refused(self) -> bool:
        """Whether the last that was answered is that nothing is taken."""
        return bool(self._answers) and self._answers[-1].outcome is not Outcome.DELIVERED

    def detach(self) -> None:
        """Let the log be."""
        self._ear.detach()


# HTTP


class _Transport:
    """The transport of a stock HTTP exporter: follows redirects, and tells of each answer."""

    def __init__(self, inner: Any, ask: _Ask) -> None:
        self._inner = inner
        self._ask = ask
        self._route = Route()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Any:
        """Send, and return the stock transport's result, or one that the exporter takes for a failure."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def send(target: str) -> Any:
            left = None if deadline is None else max(0.001, deadline - time.monotonic())
            return self._inner.request(method, target, headers=headers, timeout=left, data=data)

        def ask() -> tuple[Any, Answer]:
            result, refusal = self._route.send(url, send, _reply_of)
            answer = _heard(url, result, refusal)
            looks_taken = result.status_code is not None and 200 <= result.status_code < 400
            is_wrong = looks_taken and answer.outcome is not Outcome.DELIVERED
            return _NotTaken(answer.reason) if is_wrong else result, answer

        return self._ask(ask)

    def close(self) -> None:
        self._inner.close()

    def is_connection_error(self, exception: Exception | None) -> bool:
        return self._inner.is_connection_error(exception)


def _trust_what_is_set(session: Any) -> None:
    """Let the certificate that `OTEL_EXPORTER_OTLP_CERTIFICATE` names hold: requests prefers its own variables.

    `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` win over a session's, and only a request's own wins over them.
    """
    given, merge = getattr(session, "verify", True), getattr(session, "merge_environment_settings", None)
    if not isinstance(given, str) or merge is None:
        return

    def merged(url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        return merge(url, proxies, stream, given if verify is None else verify, cert)

    session.merge_environment_settings = merged


class _NotTaken:
    """The result of a request whose status the exporter would take for success."""

    status_code = None

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.error = ConnectionError(reason)

    def headers(self) -> Mapping[str, str]:
        return {}


def _reply_of(result: Any) -> Reply:
    return Reply(result.status_code, result.headers().get("location") if result.error is None else None)


def _heard(url: str, result: Any, refusal: str) -> Answer:
    """Return what the result of one request over HTTP says."""
    if refusal:
        return Answer(Outcome.RETRY, refusal)
    if result.error is not None:
        return Answer(Outcome.RETRY, f"{shown(url)} cannot be reached: {_innermost(result.error)}")
    status, headers = int(result.status_code), result.headers()
    answered = f"{shown(url)} answered {status_text(status)}"
    if not 200 <= status < 300:
        outcome = Outcome.REFUSED if status in _REFUSING_STATUS else Outcome.RETRY
        return Answer(outcome, answered, retry_after=retry_after_in(headers.get("retry-after")))
    kind = headers.get("content-type", "").lower()
    if kind.startswith("application/grpc") and headers.get("grpc-status") != "0":
        said = ": ".join(filter(None, (headers.get("grpc-status"), headers.get("grpc-message"))))
        return Answer(
            Outcome.RETRY, _one_line(f"{answered} in gRPC, not as to OTLP over HTTP: status {said or 'unknown'}")
        )
    partial = _partial_success(result.content(), kind)
    if partial is None:
        return Answer(Outcome.RETRY, f"{answered} with a web page, not with what a collector answers")
    rejected, words = partial
    return Answer(Outcome.DELIVERED, words, rejected=rejected)


def _innermost(error: BaseException) -> str:
    """Return what the system or TLS said; what libraries wrap around it names the same again and again."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _one_line(str(words))


def _partial_success(body: bytes, kind: str) -> tuple[int, str] | None:
    """Return how many items the collector rejected, and its words; None where it is no collector that answers.

    0 and "" where the answer says nothing of it. What it looks like counts only where it is no protobuf: a length that
    happens to be `<` or `{`, behind a tag that is the end of a line, looks like a page or like JSON.
    """
    if "html" in kind:
        return None
    readers = (_of_json, _of_protobuf) if "json" in kind else (_of_protobuf, _of_json)  # proxies may name the other
    said = next((said for read in readers if (said := read(body)) is not None), None)
    if said is None and body.lstrip(_BEFORE_WORDS)[:1] == b"<":
        return None
    return said or (0, "")  # of the words of a proxy; the status says that it was taken


_BEFORE_WORDS = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
"""What may stand before a text: marks of how it is encoded, and white space."""


def _of_protobuf(body: bytes) -> tuple[int, str] | None:
    """Return what `_partial_success` does; None where it is something else."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        # The answers of all signals have the same fields under the same numbers.
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return _of_other_letters(body)
    return max(0, partial.rejected_spans), _one_line(partial.error_message)


def _of_other_letters(body: bytes) -> tuple[int, str] | None:
    """Return what `_partial_success` does where its words are no UTF-8: then protobuf refuses all of it."""
    outer = _fields(body)
    inner = _fields(outer[1]) if outer.keys() == {1} and isinstance(outer[1], bytes) else {}
    rejected, words = inner.get(1, 0), inner.get(2)
    if not (inner.keys() <= {1, 2} and isinstance(rejected, int) and isinstance(words, bytes)):
        return None
    return rejected if rejected < 1 << 63 else 0, _one_line(words.decode(errors="replace"))


def _fields(data: bytes) -> dict[int, object]:
    """Return the fields of a protobuf message by their numbers; none where it is no such message."""
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.message import DecodeError
    from google.protobuf.unknown_fields import UnknownFieldSet

    try:
        return {field.field_number: field.data for field in UnknownFieldSet(Empty.FromString(data))}
    except DecodeError:
        return {}


def _of_json(body: bytes) -> tuple[int, str] | None:
    """Return what `_partial_success` does; None where it is something else."""
    try:
        said: Any = json.loads(body.decode(json.detect_encoding(body), "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return 0, ""
    answer = cast("dict[str, Any]", said)
    partial: Any = answer.get("partialSuccess") or answer.get("partial_success")
    if not isinstance(partial, dict):
        return 0, _one_line(json.dumps(answer, ensure_ascii=False)) if _COMPLAINTS & answer.keys() else ""
    told = cast("dict[str, Any]", partial)
    words = told.get("errorMessage") or told.get("error_message") or ""
    counts = [_whole(value) for name, value in told.items() if name.lower().startswith("rejected")]
    return max([0, *counts]), _one_line(str(words))


_COMPLAINTS = frozenset({"error", "errors", "message", "detail"})
"""Members of what services answer, other than collectors, that tell of trouble whatever the status is."""


def _whole(value: Any) -> int:
    """Return a number that JSON may hold as a text, too; 0 where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


# gRPC


class _Stub:
    """The stub of a stock gRPC exporter: tells of each answer."""

    def __init__(self, inner: Any, place: str, ask: _Ask) -> None:
        self._inner = inner
        self._place = place
        self._ask = ask

    def Export(self, *arguments: Any, **named: Any) -> Any:
        import grpc

        def ask() -> tuple[Any, Answer]:
            try:
                response = self._inner.Export(*arguments, **named)
            except grpc.RpcError as error:
                return error, _heard_of_call(self._place, error)
            partial = response.partial_success
            counts = [value for field, value in partial.ListFields() if field.name.startswith("rejected")]
            return response, Answer(Outcome.DELIVERED, _one_line(partial.error_message), rejected=max([0, *counts]))

        result = self._ask(ask)
        if isinstance(result, grpc.RpcError):
            raise result
        return result


def _heard_of_call(place: str, error: Any) -> Answer:
    """Return what a call over gRPC says that failed."""
    name, details = error.code().name, _one_line(error.details() or "")
    refused = name in _REFUSING_STATUS or any(phrase in details for phrase in _REFUSING_PHRASES)
    reason = f"{place} answered {name}: {details}" if details else f"{place} answered {name}"
    return Answer(Outcome.REFUSED if refused else Outcome.RETRY, reason, retry_after=_retry_info(error))


def _retry_info(error: Any) -> float | None:
    """Return the seconds of the `RetryInfo` that a server sends with its status; None where it sends none."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info = RetryInfo()
    for name, value in error.trailing_metadata() or ():
        try:
            # Servers send details of any kind in a status; a key of its own is what the stock exporter looks for.
            if name == "google.rpc.retryinfo-bin" and info.MergeFromString(value):
                return _seconds(info)
            details = Status.FromString(value).details if name == "grpc-status-details-bin" else ()
            if any(detail.Unpack(info) for detail in details):
                return _seconds(info)
        except (DecodeError, OverflowError, ValueError):
            continue
    return None


def _seconds(info: Any) -> float:
    return max(0.0, info.retry_delay.ToTimedelta().total_seconds())


# What is only in the log


class _Ear(logging.Filter):
    """Hears what a stock exporter logs on the sending thread, and keeps it out of the log.

    What fails before anything is sent is told nowhere else; and the log would tell of every attempt.
    """

    def __init__(self, owner: type) -> None:
        super().__init__()
        self._names = {kind.__module__ for kind in owner.__mro__ if kind.__module__ != "builtins"}
        self._thread: int | None = None
        self.heard: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread:
            return True
        self.heard.append(record)
        return False

    def listen(self) -> None:
        self._thread = threading.get_ident()
        self.heard.clear()

    def attach(self) -> None:
        for name in self._names:
            # In front: the gRPC exporter's own filter hides repetitions.
            logging.getLogger(name).filters.insert(0, self)

    def detach(self) -> None:
        for name in self._names:
            logging.getLogger(name).removeFilter(self)


def _why(heard: Sequence[logging.LogRecord]) -> Answer:
    """Read from the records of one failed export whether it may be repeated."""
    if not heard:
        return Answer(Outcome.RETRY, "no reason given")
    # The first attempt's record names the cause, before it tells of the next attempt; the last one is the verdict.
    reason, last = heard[0].getMessage().partition(" encountered while ")[0], heard[-1]
    refused = any(phrase in last.getMessage() for phrase in _REFUSING_PHRASES)
    return Answer(Outcome.REFUSED if refused else Outcome.RETRY, _one_line(reason))


def _one_line(words: str) -> str:
    # What cannot be printed a terminal may take for an order.
    shown = mask_text(" ".join(words.split()))[:_LONGEST]
    return "".join(each if each.isprintable() else "?" for each in shown)
