"""Parameters of a request, read and written by one table per API.

A parameter that a table does not name stays on the wire, untouched, and is in no record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from spanrelay.codecs.narrowing import as_mapping
from spanrelay.codecs.patching import put
from spanrelay.errors import CodecError
from spanrelay.records import JSON

Table: TypeAlias = Mapping[str, tuple[str, Callable[[JSON], JSON] | None]]
"""Wire key to the parameter's name and how its value is read. Of two keys for one name the first counts."""

SETTABLE = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "stop_sequences",
        "reasoning_effort",
        "service_tier",
    }
)
"""What a file may set, by name."""

Writer: TypeAlias = Callable[[JSON, Any], JSON]
"""How a value is written under its wire key: value and what the wire has there now, to the new wire value."""


def read_parameters(wire: Mapping[str, Any], table: Table) -> dict[str, JSON]:
    """Read the parameters of a request; null means absent."""
    parameters: dict[str, JSON] = {}
    for key, value in wire.items():
        row = table.get(key)
        if row is None or value is None:
            continue
        name, read = row
        if read is not None:
            value = read(value)
        if value is not None and (name not in parameters or _keys_of(name, table)[0] == key):
            parameters[name] = value
    return parameters


def _keys_of(name: str, table: Table) -> list[str]:
    return [key for key, row in table.items() if row[0] == name]


def write_parameters(
    out: dict[str, Any],
    old: Mapping[str, JSON],
    new: Mapping[str, JSON],
    table: Table,
    *,
    writers: Mapping[str, Writer],
    inner_keys: Mapping[str, str],
) -> None:
    """Set the parameters of `out` that differ in `new`, under the wire key in use or else the first for it.

    `inner_keys` names the wire keys that hold an object, and the key within it that is the parameter.

    Raises:
        CodecError: the API has no such parameter.
    """
    for name in {**old, **new}:
        value = new.get(name)
        if value == old.get(name):
            continue
        keys = _keys_of(name, table)
        if not keys:
            known = sorted({row[0] for row in table.values()})
            raise CodecError(f"this API has no parameter {name!r}; expected one of {known}; remove it")
        used = next((key for key in keys if out.get(key) is not None), keys[0])
        for key in keys:
            if key != used:
                _set(out, key, inner_keys.get(key), None)
        if value is not None and used in writers:
            value = writers[used](value, out.get(used))
        _set(out, used, inner_keys.get(used), value)


def without_doubles(
    wire: Mapping[str, Any], names: Iterable[str], table: Table, *, inner_keys: Mapping[str, str]
) -> Mapping[str, Any]:
    """Return `wire` with the parameters `names` under the key that counts alone; itself where no other key has one."""
    out: dict[str, Any] | None = None
    for name in names:
        used = [key for key in _keys_of(name, table) if read_parameters({key: wire.get(key)}, table)]
        for key in used[1:]:
            out = dict(wire) if out is None else out
            _set(out, key, inner_keys.get(key), None)
    return wire if out is None else out


def _set(out: dict[str, Any], key: str, inner_key: str | None, value: JSON) -> None:
    if inner_key is None:
        put(out, key, value)
        return
    inner = dict(as_mapping(out.get(key)))
    put(inner, inner_key, value)
    put(out, key, inner or None)
