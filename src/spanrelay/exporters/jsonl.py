"""Lifecycle events as lines of JSON (ATOF 0.1), into a file or to a server.

Each sink is a subscriber of its own: one that fails or hangs delays neither the application nor the others.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spanrelay._guard import guarded, losses
from spanrelay.exporters.bodies import bound_answers
from spanrelay.exporters.grace import Grace, grace
from spanrelay.exporters.redirects import Reply, Route
from spanrelay.observation.declarations import subscriber
from spanrelay.observation.events import TOLD, Event, WholeSpan
from spanrelay.observation.observers import Observer

Mode: TypeAlias = Literal["append", "overwrite"]

BATCH_BYTES = 256 * 1024
"""A sink writes when nothing more is waiting, or when this much is."""

POST_SECONDS = 3.0
LEAST_SECONDS = 0.2
"""What the end waits for a sink even where others have taken all the time that there was: a file needs no more."""


class Sink(Protocol):
    """Where lines go."""

    @property
    def name(self) -> str:
        """What is said of it in messages."""
        ...

    def take(self, event: Event) -> None:
        """Take in one event."""
        ...

    def settle(self) -> None:
        """Write what has been taken in."""
        ...

    def close(self) -> None:
        """Write what is left; nothing comes after."""
        ...

    def abandon(self, waiting: int) -> None:
        """Count what is left as lost, and `waiting` more that nobody will bring; nothing comes after."""
        ...


class _Lines:
    """Collects lines and writes them together."""

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = 0
        self._sending = 0
        """Lines that are being written."""
        self._written = 0
        """Of those, the ones that were."""

    def _be_own(self) -> None:
        if os.getpid() != self._process:  # a forked child: what stands here is its parent's to write
            self._begin()

    @property
    def name(self) -> str:
        raise NotImplementedError  # pragma: no cover - each sink has its own

    def take(self, event: Event) -> None:
        """Take in one event; exporters get only what is sampled."""
        if not event.sampled:
            return
        self._be_own()
        line = event.to_json(content=self._content).encode() + b"\n"
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BATCH_BYTES:
            self.settle()

    def settle(self) -> None:
        """Write what has been taken in; what cannot be written is counted and given up."""
        self._be_own()
        with self._lock:
            lines, self._lines, self._size, self._written = self._lines, [], 0, 0
            self._sending = len(lines)
        if lines:
            try:
                self._write(b"".join(lines))
            except Exception:
                with self._lock:
                    self._lose(max(0, self._sending - self._written))
                raise
            finally:
                self._sending = 0

    def _write(self, data: bytes) -> None:
        raise NotImplementedError  # pragma: no cover - as above

    def close(self) -> None:
        """Write what is left."""
        self.settle()

    def abandon(self, waiting: int) -> None:
        """Count what is left as lost, what is being written included, and `waiting` more."""
        self._be_own()
        with self._lock:
            self._lose(waiting + len(self._lines) + max(0, self._sending - self._written))
            self._lines, self._sending = [], self._written

    def _lose(self, count: int) -> None:
        losses.add(f"events not written to {self.name}", count)


class FileSink(_Lines):
    """Appends to a file that only this user can read, or begins it anew.

    Args:
        path: The file; its folder is made if it is not there, with a `.gitignore` that hides everything in it.
        mode: `append`, or `overwrite` what stands there from earlier processes.
        content: Whether messages, arguments and results are written.
    """

    def __init__(self, path: str | os.PathLike[str], mode: Mode = "append", *, content: bool = True) -> None:
        super().__init__(content=content)
        self._path = Path(path).absolute()
        self._anew = mode == "overwrite"
        self._torn = False

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    def _write(self, data: bytes) -> None:
        self._make_folder()
        # O_APPEND: whole lines of several processes may share a file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if self._anew else 0)
        file = os.open(self._path, flags, 0o600)
        self._anew = False
        with os.fdopen(file, "ab", buffering=0) as opened:
            if self._torn:
                opened.write(b"\n")
            rest = memoryview(data)
            try:
                while rest:  # a disk that is nearly full takes a part of it
                    rest = rest[opened.write(rest) :]
            finally:
                written = data[: len(data) - len(rest)]
                self._written = written.count(b"\n")
                self._torn = written[-1:] not in (b"", b"\n")  # the next line is to begin one all the same

    def _make_folder(self) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")


class HttpSink(_Lines):
    """Posts lines to a server as `application/x-ndjson`; any 2xx is accepted, and redirects as `redirects` has it.

    Args:
        url: Where to.
        headers: Sent with each request, credentials for instance.
        content: Whether messages, arguments and results may leave the machine.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, *, content: bool = False) -> None:
        super().__init__(content=content)
        import requests  # only where there is a server, and not while a fork may leave a child with half of it

        self._requests = requests
        self._url = url
        self._headers = {**(headers or {}), "Content-Type": "application/x-ndjson"}
        self._route = Route()

    def _begin(self) -> None:
        super()._begin()
        self._session: Any = None  # a child has connections of its own

    @property
    def name(self) -> str:
        """The server's address, without what may be a credential."""
        return self._url.partition("?")[0].rpartition("@")[2]

    def _write(self, data: bytes) -> None:
        if self._session is None:
            self._session = self._requests.Session()
            bound_answers(self._session)
        session = self._session

        def post(url: str) -> Any:
            # Left to itself the session asks on with GET and without the lines, and sends headers to other hosts.
            try:
                return session.post(url, data=data, headers=self._headers, timeout=POST_SECONDS, allow_redirects=False)
            except self._requests.RequestException as error:
                # Its words have the whole address, or a header, in them, and our log is to hold no credential.
                raise ConnectionError(f"{self.name} cannot be reached: {type(error).__name__}") from None

        answer, refusal = self._route.send(
            self._url, post, lambda answer: Reply(answer.status_code, answer.headers.get("location"))
        )
        if refusal or not answer.ok:
            raise ConnectionError(refusal or f"{self.name} answered {answer.status_code}")

    def close(self) -> None:
        """Post what is left and hang up."""
        super().close()
        if self._session is not None:
            self._session.close()


_numbers = itertools.count(1)


class JsonlSpanExporter(SpanExporter):
    """Writes starts, marks and ends as they happen, where SpanRelay stands in front; elsewhere at a span's end.

    It is a subscriber of this process. Spans that it has not been told of, of other pipelines and providers, come
    through `export`. Neither way writes a span twice.

    Args:
        sinks: Where the lines go.
        grace: Seconds that `shutdown` may wait, shared with the other exporters of the process.
    """

    def __init__(self, sinks: Iterable[Sink], *, grace: Grace = grace) -> None:
        self._grace = grace
        self._sinks = list(sinks)
        self._subscribers = [_subscriber(sink) for sink in self._sinks]
        self._handles = [entry.register() for entry in self._subscribers]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write those of `spans` that nobody has told us of."""
        with guarded("exporting spans as events"):
            for span in spans:
                told: Sequence[Observer] = getattr(span, TOLD, ())
                left = [entry for entry in self._subscribers if entry not in told]
                whole = WholeSpan(span)
                for entry in left:
                    if entry.mailbox is not None:
                        entry.mailbox.put(whole)
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write everything so far; False where that takes longer."""
        deadline = time.monotonic() + timeout_millis / 1000
        boxes = [entry.mailbox for entry in self._subscribers if entry.mailbox is not None]
        flushed = [box.flush(max(0.0, deadline - time.monotonic())) for box in boxes]
        return all(flushed)

    def shutdown(self) -> None:
        """Write everything, for as long as the end of the process may wait, and count the rest; nothing comes after."""
        for handle in self._handles:
            handle.remove()
        with self._grace.spend(self._grace.seconds) as left:
            self.force_flush(int(max(left, LEAST_SECONDS) * 1000))
        for sink, entry in zip(self._sinks, self._subscribers, strict=True):
            with guarded("closing a file of events"):
                if entry.mailbox is None or entry.mailbox.flush(0):
                    sink.close()
                else:
                    sink.abandon(entry.mailbox.abandon())


def _subscriber(sink: Sink) -> Observer:
    return subscriber(name=f"atof {next(_numbers)}: {sink.name}", settle=sink.settle)(sink.take)
