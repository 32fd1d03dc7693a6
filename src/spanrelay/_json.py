"""Any object to JSON, and JSON to objects. Never raises on what it is asked to write.

Pure: no I/O. The fast path is orjson; what orjson refuses takes the slow path.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import marshal
import math
import numbers
import os
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any, cast

import orjson

from spanrelay._guard import pass_on

MAX_DEPTH = 100
"""Levels of nesting that are looked into wherever a value is walked; models and programs nest as deep as they like."""

TOO_DEEP = "[nested too deep]"
"""What stands in place of what lies deeper."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_ZEROS = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG = b"0" * 19
"""As many digits as the smallest number that orjson may read as a float though it is an integer."""
_GLIMPSE = b"000"
_MAX_BITS = 10_000
"""Integers beyond are described: Python writes only so many digits of a number unless it is told otherwise."""
_LARGE = 32_768
"""Bytes beside which the room that orjson leaves to a result is little."""
_PLAIN = 2
"""The version of marshal that writes values alone, and not which of them are shared: the same value, the same bytes."""


def dumps(value: object) -> bytes:
    """Return `value` as JSON in UTF-8, whatever it is.

    What JSON has no form for becomes its nearest form: models by `model_dump`, sets as lists, bytes as text
    where they are UTF-8 and else as base64, paths as text, numbers of other types as numbers or their digits, NaN as
    null, a lone surrogate as U+FFFD, a cycle or another object as its `repr`.
    """
    try:
        data = orjson.dumps(value, _plain)
    except (TypeError, ValueError, RecursionError) as error:
        pass_on(error.__cause__ or error)  # orjson makes its own error of what `_plain` raises
        data = _dumps_odd(value)
    return fitting(data)


def fitting(data: bytes) -> bytes:
    """Return `data`, which orjson has written, in no more room than it takes, so that it may be kept.

    orjson leaves to each result some 4 KB of the room that it was written in.
    """
    return b"".join((data, b"")) if len(data) < _LARGE else data  # of two parts, as one alone is no copy


def plain_text(value: object) -> str | None:
    """Return `dumps_text(value)` where that is what it is usually; None for what takes another way, all of it."""
    try:
        return orjson.dumps(value, _plain).decode()
    except (TypeError, ValueError, RecursionError) as error:
        pass_on(error.__cause__ or error)
        return None


def _dumps_odd(value: object) -> bytes:
    """Return the JSON of what is no plain JSON; an option for keys that are no text would cost all others half."""
    try:
        return orjson.dumps(value, _plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:  # orjson's refusals: surrogates, cycles, huge integers
        pass_on(error.__cause__ or error)
        return json.dumps(_rebuild(value, 0, set()), ensure_ascii=True, allow_nan=False).encode()


def dumps_text(value: object) -> str:
    """Return `dumps(value)` as text."""
    text = plain_text(value)
    return _dumps_odd(value).decode() if text is None else text


def dumps_sorted(value: object) -> str:
    """Return `dumps_text(value)` with the members of each object in the order of their names."""
    try:
        return orjson.dumps(value, _plain, orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError) as error:
        pass_on(error)
        return json.dumps(_rebuild(value, 0, set()), allow_nan=False, sort_keys=True)


def dumps_canonical(value: object) -> bytes:
    """Return the JSON of `value` with the members of each object in the order of their names.

    Raises:
        TypeError: there is something in it that JSON has no form for, so that two values might look alike.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the JSON value in `data`.

    Integers keep all their digits, however many.

    Raises:
        ValueError: `data` is not JSON, or nested deeper than anything here can read.
    """
    try:
        return loads_strict(data)
    except orjson.JSONDecodeError as error:
        # Some servers write NaN, Infinity and lone surrogates: Python's dialect of JSON, not orjson's.
        try:
            return json.loads(bytes(data) if isinstance(data, memoryview) else data)
        except RecursionError as deep:
            pass_on(deep)
            raise ValueError("JSON that is nested too deep to be read") from error


def loads_strict(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the JSON value in `data`, without what only Python's dialect allows.

    Raises:
        ValueError: `data` is not JSON.
    """
    value = orjson.loads(data)
    told = data if type(data) is bytes else _bytes_of(data)
    # No number can be an integer of more than 64 bits, which orjson reads as a float, where digits are that few: of
    # every sixth byte a run of so many has three in a row, by which most data is known.
    if len(told) < len(_LONG) or _GLIMPSE not in told[::6].translate(_ZEROS) or _LONG not in told.translate(_ZEROS):
        return value
    return _exactly(data, value)


def _bytes_of(data: bytes | bytearray | memoryview | str) -> bytes:
    return data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)


def _exactly(data: bytes | bytearray | memoryview | str, value: Any) -> Any:
    """Return the JSON in `data` with every digit, or `value`, read already, where Python cannot read it."""
    try:
        return json.loads(bytes(data) if isinstance(data, memoryview) else data)
    except (ValueError, RecursionError):  # thousands of digits, or of levels
        return value


def loads_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`; an empty one where that is cut, too deep, or something else."""
    try:
        value: Any = loads(data)
    except (ValueError, RecursionError) as error:
        pass_on(error)
        return {}
    return value if isinstance(value, dict) else {}


def loads_or_text(data: str) -> Any:
    """Return the JSON value in `data`, or `data` itself where it is not JSON."""
    try:
        return loads_strict(data)
    except orjson.JSONDecodeError:
        return data


def copied(value: Any) -> Any:
    """Return a copy of plain JSON, as deep as it may be."""
    try:
        return marshal.loads(marshal.dumps(value, _PLAIN))
    except ValueError:  # something in it is no plain JSON
        return copy.deepcopy(value)


def plain(value: Any) -> Any:
    """Return `value` where it is plain JSON or has tuples in it, else its nearest form: models within JSON are read."""
    try:
        marshal.dumps(value, _PLAIN)
    except ValueError:  # as above
        return loads(dumps(value))
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON, as deep as they may be; NaN is the same as NaN, and 1 not as True."""
    try:
        return marshal.dumps(one, _PLAIN) == marshal.dumps(other, _PLAIN)
    except ValueError:  # as above
        return one == other


def clean_text(text: str) -> str:
    """Return `text` with lone surrogates as U+FFFD, so that it can be UTF-8; the same object where it has none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def clean(value: Any) -> Any:
    """Return plain JSON with `clean_text` of every text in it, names of members too.

    Raises:
        RecursionError: it is nested too deep to be looked through.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(name): clean(item) for name, item in cast("dict[str, Any]", value).items()}
    return [clean(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _plain(value: object) -> object:
    """Return the nearest plain form of an object that orjson does not know."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", warnings=False) if _is_pydantic_v2(value) else dump()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    if isinstance(value, Set):
        return list(cast("Set[object]", value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _plain_bytes(bytes(value))
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str] | os.PathLike[bytes]", value))
    if isinstance(value, numbers.Number):
        return _plain_number(value)
    return _describe(value)


def is_described(value: object) -> bool:
    """Whether JSON has no form for `value`, or for something in it, so that `dumps` only says what it is."""

    def plain(value: object) -> object:
        found = _plain(value)
        if isinstance(found, str) and not isinstance(
            value, (bytes, bytearray, memoryview, os.PathLike, numbers.Number)
        ):
            raise LookupError
        return found

    try:
        orjson.dumps(value, plain, orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError) as error:
        return isinstance(error.__cause__, LookupError)
    return False


def _plain_number(value: object) -> object:
    """Return a number of another type than JSON's: that of a package for arrays, or one of exact digits."""
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational) else str(value)


def _plain_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _is_pydantic_v2(value: object) -> bool:
    return hasattr(type(value), "__pydantic_core_schema__")


def _describe(value: object) -> str:
    """Return a short text for an object, without running an iterator or failing on a broken `repr`."""
    try:
        return f"<{type(value).__name__}>" if isinstance(value, Iterator) else clean_text(repr(value))[:1000]
    except Exception as error:
        pass_on(error)
        return f"<{type(value).__name__}>"


def _rebuild(value: object, depth: int, above: set[int]) -> object:
    """Return `value` as something `json.dumps` takes, cutting cycles and depth."""
    try:
        return _rebuild_part(value, depth, above)
    except Exception as error:  # somebody else's object that fails when it is read, or even asked for its class
        pass_on(error)
        return _describe(value)


def _rebuild_part(value: object, depth: int, above: set[int]) -> object:
    """Return what `_rebuild` does. Raises what reading the value raises."""
    if value is None or isinstance(value, (bool, int)):
        return value if value is None or value.bit_length() <= _MAX_BITS else f"<{type(value).__name__}>"
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH or id(value) in above:
        return "<cycle>" if id(value) in above else TOO_DEEP
    return _rebuild_inside(value, depth, above | {id(value)})


def _rebuild_inside(value: object, depth: int, above: set[int]) -> object:
    """Return the nearest plain form of what is no scalar. Raises what reading the value raises."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {clean_text(str(key)): _rebuild(item, depth + 1, above) for key, item in mapping.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_rebuild(item, depth + 1, above) for item in cast("list[object]", value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return _rebuild(fields, depth, above)
    plain = _plain(value)
    return _rebuild(plain, depth + 1, above) if plain is not value else _describe(value)
