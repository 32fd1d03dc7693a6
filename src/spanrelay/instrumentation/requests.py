"""What a request of a Stainless SDK asks for and where it goes, read from its options as the SDK will send them.

Nothing here raises, and nothing of the application's is consumed: a body that can only be read once is not read.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

from spanrelay import _json
from spanrelay.codecs.offers import Offer
from spanrelay.pipeline.model import text_of

_ABSENT = frozenset({"NotGiven", "Omit"})
"""Classes of the SDKs whose instances stand for nothing."""
_DEPLOYMENT = re.compile(r"/(?:deployments|engines)/([^/]+)", re.IGNORECASE)


class Body(NamedTuple):
    """The JSON object of a request, or the fields of its form; `unreadable` says why it is not known.

    `names_model` says that a model is named all the same. `parts` are the fields of a form that are JSON by themselves,
    `beside` the models that its files name, of which one may be no text, and `offers` the tools that these offer.
    """

    wire: Mapping[str, Any]
    unreadable: str | None = None
    names_model: bool = False
    parts: frozenset[str] = frozenset()
    beside: tuple[Any, ...] = ()
    offers: tuple[Offer, ...] = ()


class Place(NamedTuple):
    """Where a request goes: its path, decoded and normal, and the models that its URL names.

    `named` are those of the URL's query; `follows` says that the client makes the deployment from the body's model.
    """

    path: str
    deployment: str | None
    named: tuple[str, ...]
    follows: bool = False


_NOTHING = Body({})


def is_absent(value: object) -> bool:
    """Whether `value` stands for nothing in the SDKs."""
    return type(value).__name__ in _ABSENT


def body_of(options: Any) -> Body:
    """Return what is in the body of a request."""
    try:
        return _read(options)
    except Exception as error:  # an object of the application's, read by code of its own
        return Body({}, f"its body cannot be read ({type(error).__name__})")


def _read(options: Any) -> Body:
    data, extra = options.json_data, options.extra_json
    if extra is not None:
        data = _merged(data, extra)
    elif type(data) is not dict:
        data = None if is_absent(data) else data
    if data is None or isinstance(data, bytes):
        content = getattr(options, "content", None)  # older SDKs have none
        data = content if data is None else data
    wire = _parsed(data)
    if isinstance(wire, Body):
        return wire
    bool(wire.get("stream"))  # an object of the application's may refuse
    return _with_files(wire, options.files) if options.files else Body(wire)


def _with_files(wire: Mapping[str, Any], files: Any) -> Body:
    """Return a form: what it has as fields, and what it has as JSON among its files."""
    named: list[tuple[Any, Any]] = list(files.items() if isinstance(files, Mapping) else files)
    if any(name == "model" for name, _ in named):
        return Body(wire, "one of its files is a field 'model'; pass the model in the body", names_model=True)
    parts = [(name, value[1]) for name, value in named if _is_json_part(value)]
    found = {name: object_in(data) for name, data in parts}
    bad = next((each for each in found.values() if isinstance(each, Body)), None)
    if bad is not None or len({*wire, *found}) != len(wire) + len(parts):
        why = "a field of its form is there twice; pass it once" if bad is None else bad.unreadable
        return Body(wire, why, names_model=True)
    return Body({**wire, **found}, parts=frozenset(found))


def _is_json_part(value: Any) -> bool:
    """Whether an entry among files is no file, but a field that says of itself that it is JSON."""
    if not (isinstance(value, (list, tuple)) and len(cast("Any", value)) >= 3):
        return False
    filename, data, kind = cast("Any", value)[:3]
    return filename is None and isinstance(data, (bytes, str)) and str(kind).startswith("application/json")


def files_with(files: Any, fields: Mapping[str, Any]) -> list[Any]:
    """Return the files of a form with other values of the `parts` in `fields`; without those that are None there."""
    made: list[Any] = []
    for name, value in list(files.items() if isinstance(files, Mapping) else files):
        if name not in fields:
            made.append((name, value))
        elif fields[name] is not None:
            made.append((name, (None, _json.dumps(fields[name]), *value[2:])))
    return made


def _merged(data: Any, extra: Any) -> Any:
    """Return the body with `extra_body` in it, as the SDK puts them together."""
    if data is None or is_absent(data):
        return extra
    merged = {**data, **extra} if isinstance(data, Mapping) else data
    return {key: value for key, value in merged.items() if type(value).__name__ != "Omit"} if merged else merged


def _parsed(data: Any) -> Mapping[str, Any] | Body:
    if type(data) is dict:
        return cast("dict[str, Any]", data)
    if isinstance(data, Mapping):
        return dict(cast("Mapping[str, Any]", data).items())  # as the SDK reads it to write it
    if data is None:
        return {}
    if isinstance(data, (bytes, bytearray, str)):
        return object_in(data)
    dump = getattr(data, "model_dump", None)
    if callable(dump) and not isinstance(data, type):
        return cast("Mapping[str, Any]", dump(exclude_unset=True, mode="json", by_alias=True))
    return Body({}, f"its body is of type {type(data).__name__!r}, which is not a JSON object; pass a dict")


def object_in(data: bytes | bytearray | str) -> Mapping[str, Any] | Body:
    """Return the JSON object in a body of bytes; one that names a member twice is read in two ways by two readers."""
    try:
        value = json.loads(data, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        return Body({}, f"its body is not unambiguous JSON ({error}); pass a dict")
    return value if isinstance(value, dict) else Body({}, "its body is not a JSON object; pass a dict")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has the same key twice")
    return found


def is_writable(wire: Mapping[str, Any]) -> bool:
    """Whether the SDKs write `wire` as JSON; where it has objects of a class, they alone know."""
    try:
        return bool(json.dumps(wire, allow_nan=False, ensure_ascii=False).encode())
    except Exception:  # theirs to raise
        return False


def place_of(client: Any, url: str) -> Place:
    """Return where `client` sends what it is asked to send to `url`; `/` where the SDK will refuse that."""
    try:
        prepared = client._prepare_url(url)
        return place_in(prepared.path, prepared.query)
    except Exception:  # the SDK raises it again
        return Place("/", None, ())


def place_in(path: str, query: bytes) -> Place:
    """Return what the path and the query of a URL say.

    Raises:
        ValueError: the query has more fields than anybody reads.
    """
    path = normal(path)
    asked = parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True)
    found = _DEPLOYMENT.search(path)
    return Place(path.casefold(), found[1] if found else None, models_of(asked))


def normal(path: str) -> str:
    """Return a path as a server may read it: decoded, without empty or dot segments, without a slash at its end."""
    for _ in range(5):  # a proxy in between may decode it once more
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    return posixpath.normpath("/" + re.sub(r";[^/]*", "", path.replace("\\", "/")).strip().lstrip("/"))


def named_in_query(given: Any) -> tuple[str, ...]:
    """Return the models that the query of a client or `extra_query` names."""
    try:
        return models_of(given.items())
    except Exception:  # what is no mapping is the SDK's to refuse
        return ()


def models_of(query: Iterable[tuple[Any, Any]]) -> tuple[str, ...]:
    """Return the models in a query, of which several servers read names in any case."""
    named: list[str] = []
    for key, value in query:
        if key == "model" or (isinstance(key, str) and key.casefold() in ("model", "model[]")):
            values = cast("Any", value) if isinstance(value, (list, tuple)) else (value,)
            named += [text for each in values if (text := text_of(each)) is not None]
    return tuple(named)
