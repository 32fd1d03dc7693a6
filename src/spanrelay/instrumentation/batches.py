"""Models that the file of a batch names: JSON lines, each with the body of a request that is asked hours later.

OpenAI's API, and those like it, take the file before there is a batch, and a batch names only the file. So the file is
judged when it is uploaded, by who is in force then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.codecs.naming import models_within
from spanrelay.instrumentation.requests import Body, object_in


def is_batch(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of an upload say that its file is of a batch: some servers have words of their own for it."""
    purpose = fields.get("purpose")
    return isinstance(purpose, str) and purpose.casefold().startswith("batch")


def with_files(body: Body, files: Iterable[Any]) -> Body:
    """Return what a form says, with the models that its files of a batch name, or why nobody can say them.

    Args:
        body: Its fields.
        files: As SDKs take them: bytes, open files, which are left where they were, and tuples of a name and one of
            these.
    """
    try:
        beside = tuple(model for file in files for model in _models_in_file(file))
    except ValueError as error:
        return body._replace(unreadable=f"its file of a batch {error}", names_model=True)
    except Exception as error:  # a file of the application's own making
        why = f"its file of a batch cannot be read ({type(error).__name__}); pass bytes"
        return body._replace(unreadable=why, names_model=True)
    return body._replace(beside=beside)


def in_parts(body: Body, path: str) -> Body:
    """Return what a request to `path` says; of an upload whose parts nobody can judge one by one, that it is that."""
    if not (path.endswith("/uploads") and is_batch(body.wire)):
        return body
    why = "a file of a batch that is uploaded in parts cannot be checked; pass all of it to `files`"
    return body._replace(unreadable=why, names_model=True)


def _models_in_file(file: Any) -> tuple[Any, ...]:
    content = cast("tuple[Any, ...]", file)[1] if isinstance(file, tuple) else file
    if isinstance(content, (bytes, bytearray)):
        return _models_in(bytes(content).splitlines())
    if not content.seekable():
        raise ValueError("can be read only once; pass bytes, or a file that can be read again")
    before = content.tell()
    content.seek(0)  # whence the client library sends it, wherever it stands
    try:
        return _models_in(content)
    finally:
        content.seek(before)


def _models_in(lines: Iterable[Any]) -> tuple[Any, ...]:
    """Return the models that lines name, each once; one may be no text."""
    found: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not isinstance(line, bytes):
            raise ValueError("is not open for bytes; open it with 'rb'")
        if line.strip():
            request = _object_in(line, number)
            found += [model for model in models_within({"requests": [request]}) if model not in found]
    return tuple(found)


def _object_in(line: bytes, number: int) -> Mapping[str, Any]:
    """Return the object of a line in which no member is there twice: a body may be, as well as a model in it."""
    found = object_in(line)
    if not isinstance(found, Body):
        return found
    value: Any
    try:
        value = _json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object at line {number}; write one request on each line")
    raise ValueError(f"cannot be checked at line {number}: {found.unreadable}")
