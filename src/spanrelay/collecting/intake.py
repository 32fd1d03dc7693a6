"""What was accepted, on disk before it is answered: files of export requests that `spanrelay convert` reads as well.

Requests that wait at the same time share one `fsync`. A file that is full is followed by the next, by its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from spanrelay import _json
from spanrelay._guard import swallow
from spanrelay.assembly import spool
from spanrelay.collecting import forgetting
from spanrelay.errors import ConfigurationError

_FULL = 64 << 20
"""Bytes after which a file is followed by the next."""
_LENGTH = 4
_FORGOTTEN = "forgotten"


class Request(NamedTuple):
    """An export request, the number of the file that it is in, and its name where something is wrong with it."""

    data: bytes
    is_json: bool
    file: int = 0
    name: str = ""


class Full(Exception):
    """The disk does not take it: nothing of it was kept."""


class _Waiting(NamedTuple):
    request: Request
    done: asyncio.Future[None]


class _File:
    """The two files of one number: requests in protobuf, each behind its length, and those in JSON, a line each."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number = number
        self._files = {is_json: _open(path) for is_json, path in _paths(folder, number).items()}
        _sync_names(folder)
        self.torn = False
        """Whether its end is a part of a request, behind which nothing would be read again."""

    @property
    def size(self) -> int:
        return sum(os.fstat(file).st_size for file in self._files.values())

    def append(self, requests: list[Request]) -> None:
        """Append requests, all or none, and wait until the disk has them.

        Raises:
            OSError: it does not take them.
        """
        before = {file: os.fstat(file).st_size for file in self._files.values()}
        parts: dict[int, list[bytes]] = {}
        for request in requests:
            parts.setdefault(self._files[request.is_json], []).append(_framed(request))
        try:
            for file, data in parts.items():
                _write(file, b"".join(data))
                os.fsync(file)
        except OSError:
            self.torn = True
            for file, size in before.items():
                os.ftruncate(file, size)  # what follows would be read from its middle
            self.torn = False
            raise

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)


class Intake:
    """Keeps requests, in a thread of its own.

    Args:
        folder: Where; it is made.
        kept: Is given each request once it is on disk, in order.

    Raises:
        ConfigurationError: another process keeps requests there.
    """

    def __init__(self, folder: Path, kept: Callable[[list[Request]], object]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._kept = folder, kept
        self._lock = io.FileIO(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")
        if not spool.lock(self._lock):
            self._lock.close()
            raise ConfigurationError(
                f"another collector writes into {str(folder.parent)!r}: stop it, or choose another folder (-o)"
            )
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._closed = False
        self._file = _File(folder, max(Shelf(folder).numbers(), default=0) + 1)
        self._thread = threading.Thread(target=self._run, name="spanrelay-intake", daemon=True)

    def start(self) -> None:
        """Begin to keep what is given."""
        self._thread.start()

    async def keep(self, request: Request) -> None:
        """Return when a request is on disk.

        Raises:
            Full: it is not, and nothing of it is.
        """
        done = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed:
                raise Full("the collector is ending")
            self._waiting.append(_Waiting(request, done))
            self._changed.notify()
        await done

    def close(self) -> None:
        """Keep what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._file.close()
        self._lock.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                taken, self._waiting = self._waiting, []
            if not taken:
                return
            self._keep(taken)

    def _keep(self, taken: list[_Waiting]) -> None:
        failure: Full | None = None
        try:
            self._next_file()
            requests = [each.request._replace(file=self._file.number) for each in taken]
            self._file.append(requests)
            self._kept(requests)
        except OSError as error:
            failure = Full(f"{str(self._folder)!r} cannot be written to: {error.strerror or error}")
        except Exception as error:  # this thread has to go on: whoever waits for it would wait for ever
            swallow("keeping requests", error)
            failure = Full(f"requests could not be kept ({type(error).__name__})")
        for each in taken:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is told
                each.done.get_loop().call_soon_threadsafe(_settle, each.done, failure)

    def _next_file(self) -> None:
        if self._file.torn or self._file.size > _FULL:
            before, self._file = self._file, _File(self._folder, self._file.number + 1)
            before.close()


class Shelf:
    """The files of a folder of requests, by their numbers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def numbers(self) -> list[int]:
        """Return the numbers of the files that are there, in order; the last is being written."""
        return sorted({int(path.stem) for path in self._folder.glob("*.*") if path.stem.isdecimal()})

    def read_again(self) -> Iterator[Request]:
        """Yield what was kept before, in the order of its files; what a kill cut off, untold to anybody, is removed."""
        for number in self.numbers():
            for is_json, path in _paths(self._folder, number).items():
                if path.exists():
                    for data in _lines(path) if is_json else _messages(path):
                        yield Request(data, is_json, number)

    def set_aside(self, request: Request, fault: str) -> bool:
        """Leave what could not be read where it is: the next start reads it again."""
        return False

    def remove(self, number: int) -> None:
        """Remove the files of a number."""
        for path in _paths(self._folder, number).values():
            path.unlink(missing_ok=True)

    def forget(self, traces: Mapping[str, int]) -> None:
        """Note traces that are not wanted any more, by their keys: each with the last file that it is in."""
        forgetting.note(self._folder / _FORGOTTEN, traces)

    def forgotten(self) -> dict[str, int]:
        """Return what was noted by `forget`, and leave out what no file has any more."""
        return forgetting.noted(self._folder / _FORGOTTEN, min(self.numbers(), default=0))


def _messages(path: Path) -> Iterator[bytes]:
    whole = 0
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH)) == _LENGTH:
            size = int.from_bytes(head, "big")
            data = file.read(size)
            if len(data) < size:
                break
            whole += _LENGTH + size
            yield data
    _cut(path, whole)


def _lines(path: Path) -> Iterator[bytes]:
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield line[:-1]
    _cut(path, whole)


def _cut(path: Path, size: int) -> None:
    if path.stat().st_size > size:
        os.truncate(path, size)


def _framed(request: Request) -> bytes:
    if request.is_json:
        return one_line(request.data) + b"\n"
    return len(request.data).to_bytes(_LENGTH, "big") + request.data


def one_line(data: bytes) -> bytes:
    """Return JSON in one line, the same bytes where it is one.

    Raises:
        ValueError: it is laid out over several and is not JSON.
    """
    data = data.strip()
    return data if b"\n" not in data else _json.dumps(_json.loads(data))


def _paths(folder: Path, number: int) -> dict[bool, Path]:
    return {False: folder / f"{number:08}.otlp", True: folder / f"{number:08}.jsonl"}


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _sync_names(folder: Path) -> None:
    """Let files that were made outlive a loss of power; where no folder can be synced they outlive a kill."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _settle(done: asyncio.Future[None], failure: Full | None) -> None:
    if done.done():  # the client has left
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
