"""The application's values as JSON, for policy and the record, and back where policy changed them.

What policy left alone is handed on as the very object; only what differs is built anew.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import pass_on
from spanrelay.errors import MiddlewareError
from spanrelay.records import JSON


def as_json(value: object) -> JSON:
    """Return `value` as plain JSON, nothing of it shared."""
    return _json.loads(_json.dumps(value))


def like(original: Any, value: JSON) -> Any:
    """Return `value` in the types of `original`, part by part; `original` itself where both say the same.

    Dataclasses, pydantic models, mappings, lists and tuples are known; anything else takes `value` as it is.

    Raises:
        MiddlewareError: `value` does not fit a dataclass or model of `original`.
    """
    return _like(original, value, like)


def as_it_was(original: Any, value: JSON) -> Any:
    """Return `original` as it was when its JSON was `value`; an object that nobody can build anew stays as it is.

    Raises:
        MiddlewareError: as `like`.
    """
    return original if _is_unknown(original) else _like(original, value, as_it_was)


def _like(original: Any, value: JSON, part: Callable[[Any, JSON], Any]) -> Any:
    if as_json(original) == value:
        return original
    if isinstance(value, dict):
        return _mapping_like(original, cast("dict[str, Any]", value), part)
    if isinstance(value, list) and isinstance(original, (list, tuple)):
        templates = list(cast("list[Any]", original))
        items = [
            part(templates[min(index, len(templates) - 1)], item) if templates else item
            for index, item in enumerate(cast("list[Any]", value))
        ]
        return tuple(items) if isinstance(original, tuple) else items
    return value


def _mapping_like(original: Any, value: dict[str, Any], part: Callable[[Any, JSON], Any]) -> Any:
    if isinstance(original, Mapping):
        known = cast("Mapping[str, Any]", original)
        return {key: part(known[key], item) if key in known else item for key, item in value.items()}
    if _is_dataclass(original):
        value = {
            key: part(getattr(original, key), item) if hasattr(original, key) else item for key, item in value.items()
        }
    return build(cast("type[Any]", type(original)), value)


def _is_unknown(value: object) -> bool:
    known = isinstance(value, (str, int, float, type(None), Mapping, list, tuple))
    return not (known or _is_dataclass(value) or hasattr(type(value), "model_validate"))


def build(kind: Any, value: JSON) -> Any:
    """Return `value` as a `kind` where that is a dataclass or a pydantic model, else as it is.

    Raises:
        MiddlewareError: `value` does not fit.
    """
    if kind is Any or not isinstance(kind, type) or isinstance(value, kind):
        return value
    make: Callable[[Any], Any] | None = getattr(kind, "model_validate", None)
    if make is None and dataclasses.is_dataclass(kind) and isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        make = lambda _: kind(**fields)  # noqa: E731 - one line in two shapes
    if make is None:
        return value
    try:
        return make(value)
    except Exception as error:
        pass_on(error)
        raise MiddlewareError(f"what policy returned is not a valid {kind.__name__!r}: {error}") from error


def returned_by(function: Callable[..., Any]) -> Any:
    """Return the type that `function` is annotated to return, or None where that cannot be told."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception as error:
        pass_on(error)
        return None


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
