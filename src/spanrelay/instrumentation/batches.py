"""What the file of a batch names and offers, models and tools: JSON lines, each the body of a request of hours later.

OpenAI's API, and those like it, take the file before there is a batch, and a batch names only the file. So the file is
judged when it is uploaded, by who is in force then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

from spanrelay import _json
from spanrelay.codecs import plain
from spanrelay.codecs.naming import models_within
from spanrelay.codecs.offers import Offer, offers_of
from spanrelay.instrumentation.requests import Body, object_in


def is_batch(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of an upload say that its file is of a batch: some servers have words of their own for it."""
    purpose = fields.get("purpose")
    return isinstance(purpose, str) and purpose.casefold().startswith("batch")


def with_files(body: Body, files: Iterable[Any]) -> Body:
    """Return what a form says, with what its files of a batch name and offer, or why nobody can say that.

    Args:
        body: Its fields.
        files: As SDKs take them: bytes, open files, which are left where they were, and tuples of a name and one of
            these.
    """
    try:
        found = [_found_in_file(file) for file in files]
        if not found:
            return body._replace(unreadable=_ELSEWHERE, names_model=True)
    except ValueError as error:
        return body._replace(unreadable=f"its file of a batch {error}", names_model=True)
    except Exception as error:  # a file of the application's own making
        why = f"its file of a batch cannot be read ({type(error).__name__}); pass bytes"
        return body._replace(unreadable=why, names_model=True)
    beside = tuple(model for models, _ in found for model in models)
    return body._replace(beside=beside, offers=tuple(offer for _, offers in found for offer in offers))


def in_parts(body: Body, path: str) -> Body:
    """Return what a request to `path` says, that has no file; of an upload that the file is not in, that it is that.

    OpenAI's takes it in parts that nobody can judge one by one, and Together's tells where else to put it.
    """
    if not (path.endswith(_UPLOADS) and is_batch(body.wire)):
        return body
    return body._replace(unreadable=_ELSEWHERE, names_model=True)


_ELSEWHERE = (
    "a file of a batch that is uploaded in parts, or to another server, cannot be checked; "
    "pass all of it to `files`, or ask without a batch"
)
_UPLOADS = ("/uploads", "/files", "/files/multipart/initiate")


_Found: TypeAlias = tuple[list[Any], list[Offer]]
"""Models, of which one may be no text, and offers of tools, each once."""


def _found_in_file(file: Any) -> _Found:
    content = cast("tuple[Any, ...]", file)[1] if isinstance(file, tuple) else file
    if isinstance(content, (bytes, bytearray)):
        return _found_in(bytes(content).splitlines())
    if not content.seekable():
        raise ValueError("can be read only once; pass bytes, or a file that can be read again")
    before = content.tell()
    content.seek(0)  # whence the client library sends it, wherever it stands
    try:
        return _found_in(content)
    finally:
        content.seek(before)


def _found_in(lines: Iterable[Any]) -> _Found:
    models: list[Any] = []
    offers: list[Offer] = []
    for number, line in enumerate(lines, 1):
        if not isinstance(line, bytes):
            raise ValueError("is not open for bytes; open it with 'rb'")
        if line.strip():
            asked = {"requests": [_object_in(line, number)]}
            models += [model for model in models_within(asked) if model not in models]
            told = [replace(offer, place="a line of its file") for offer in offers_of(plain, asked)]
            offers += [offer for offer in told if offer not in offers]
    return models, offers


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
